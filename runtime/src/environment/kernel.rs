//! Takes the uncompressed kernel out of the file that Debian ships.
//!
//! A `bzImage` is a small real-mode program, a decompressor and the compressed `vmlinux`. QEMU and Firecracker boot
//! the `vmlinux` itself through its PVH entry point, which is faster, above all under emulation. Offsets are those
//! of "The Linux/x86 Boot Protocol".

/// Offset of the number of 512-byte sectors of the real-mode part, less the boot sector.
const SETUP_SECTS: usize = 0x1f1;
/// Offset of the magic `HdrS`.
const HEADER_MAGIC: usize = 0x202;
/// Offset of the protocol version.
const PROTOCOL: usize = 0x206;
/// Offset of the start of the payload, counted from the protected-mode part.
const PAYLOAD_OFFSET: usize = 0x248;
/// Offset of the length of the payload.
const PAYLOAD_LENGTH: usize = 0x24c;
/// First protocol version that has the two fields above.
const PROTOCOL_WITH_PAYLOAD: u16 = 0x0208;

/// First bytes of an LZ4 file in the legacy format.
const LZ4_LEGACY: [u8; 4] = [0x02, 0x21, 0x4c, 0x18];
/// Every block of the legacy format but the last unpacks to exactly this.
const LZ4_BLOCK_BYTES: usize = 8 << 20;
/// No kernel is bigger; a larger number is damage.
const VMLINUX_LIMIT_BYTES: usize = 512 << 20;

/// Program headers of this type hold notes.
const PT_NOTE: u32 = 4;
/// Number of the note that holds the PVH entry point.
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;

/// Why no kernel came out.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The file is not a Linux kernel for x86, or ends too early.
    #[error("the file is no kernel image: {0}")]
    NotAKernel(&'static str),
    /// The payload is compressed in a way that Debian 12 does not use.
    #[error("the kernel is compressed with {0}, but only lz4 is supported")]
    Compression(&'static str),
    /// The payload is damaged.
    #[error("the kernel does not unpack: {0}")]
    Damaged(String),
    /// The kernel has no PVH entry point, so QEMU and Firecracker could not start it.
    #[error("the kernel has no PVH entry point (CONFIG_PVH)")]
    NoPvh,
}

/// Returns the uncompressed kernel of a `bzImage`, an ELF file with a PVH entry point.
pub(super) fn vmlinux(bz_image: &[u8]) -> Result<Vec<u8>, KernelError> {
    let unpacked = unpack(payload(bz_image)?)?;
    if !unpacked.starts_with(b"\x7fELF") {
        return Err(KernelError::Damaged("the payload is no ELF file".to_owned()));
    }
    if has_pvh_entry(&unpacked) { Ok(unpacked) } else { Err(KernelError::NoPvh) }
}

fn payload(image: &[u8]) -> Result<&[u8], KernelError> {
    const SHORT: KernelError = KernelError::NotAKernel("it ends too early");
    if image.get(HEADER_MAGIC..HEADER_MAGIC + 4) != Some(b"HdrS") {
        return Err(KernelError::NotAKernel("it has no boot header"));
    }
    if u16_at(image, PROTOCOL).ok_or(SHORT)? < PROTOCOL_WITH_PAYLOAD {
        return Err(KernelError::NotAKernel("its boot protocol is too old"));
    }
    // Zero means four, for the sake of boot loaders from before 1994.
    let sectors = match image.get(SETUP_SECTS).ok_or(SHORT)? {
        0 => 4,
        &some => usize::from(some),
    };
    let start = (sectors + 1) * 512 + usize_at(image, PAYLOAD_OFFSET).ok_or(SHORT)?;
    let length = usize_at(image, PAYLOAD_LENGTH).ok_or(SHORT)?;
    image.get(start..start.saturating_add(length)).ok_or(SHORT)
}

fn unpack(payload: &[u8]) -> Result<Vec<u8>, KernelError> {
    match payload {
        [0x1f, 0x8b, ..] => Err(KernelError::Compression("gzip")),
        [b'B', b'Z', b'h', ..] => Err(KernelError::Compression("bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(KernelError::Compression("xz")),
        [0x5d, 0, 0, ..] => Err(KernelError::Compression("lzma")),
        [0x89, b'L', b'Z', b'O', ..] => Err(KernelError::Compression("lzo")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(KernelError::Compression("zstd")),
        _ => match payload.strip_prefix(&LZ4_LEGACY) {
            // The kernel's build appends the size of the unpacked kernel.
            Some([blocks @ .., a, b, c, d]) => unpack_lz4(blocks, u32::from_le_bytes([*a, *b, *c, *d])),
            _ => Err(KernelError::Compression("an unknown method")),
        },
    }
}

/// Unpacks blocks, each of which is its length in four bytes and that many bytes of LZ4.
fn unpack_lz4(mut blocks: &[u8], size: u32) -> Result<Vec<u8>, KernelError> {
    let damaged = |why: &str| KernelError::Damaged(why.to_owned());
    let size = usize::try_from(size).ok().filter(|size| *size <= VMLINUX_LIMIT_BYTES);
    let size = size.ok_or_else(|| damaged("its stated size is impossible"))?;
    let mut kernel = vec![0; size];
    let mut filled = 0;
    while filled < size {
        let length = usize_at(blocks, 0).ok_or_else(|| damaged("a block is missing"))?;
        let block = blocks.get(4..length.saturating_add(4)).ok_or_else(|| damaged("a block is cut off"))?;
        let room = &mut kernel[filled..size.min(filled + LZ4_BLOCK_BYTES)];
        let written = lz4_flex::block::decompress_into(block, room)
            .map_err(|error| KernelError::Damaged(error.to_string()))?;
        if written != room.len() {
            return Err(damaged("a block is shorter than stated"));
        }
        filled += written;
        blocks = &blocks[4 + length..];
    }
    Ok(kernel)
}

/// Looks for the note that holds the PVH entry point in a 64-bit little-endian ELF file.
fn has_pvh_entry(elf: &[u8]) -> bool {
    let (Some(table), Some(entry_size), Some(entries)) = (u64_at(elf, 32), u16_at(elf, 54), u16_at(elf, 56))
    else {
        return false;
    };
    (0..usize::from(entries)).any(|index| {
        let header = table.saturating_add(index * usize::from(entry_size));
        let note = || {
            let start = u64_at(elf, header.checked_add(8)?)?;
            let length = u64_at(elf, header.checked_add(32)?)?;
            elf.get(start..start.checked_add(length)?)
        };
        u32_at(elf, header) == Some(PT_NOTE) && note().is_some_and(notes_hold_pvh)
    })
}

fn notes_hold_pvh(mut notes: &[u8]) -> bool {
    while let (Some(name), Some(content), Some(kind)) =
        (usize_at(notes, 0), usize_at(notes, 4), u32_at(notes, 8))
    {
        if kind == XEN_ELFNOTE_PHYS32_ENTRY && notes.get(12..16) == Some(b"Xen\0") {
            return true;
        }
        let padded = |length: usize| length.saturating_add(3) & !3;
        notes =
            notes.get(padded(name).saturating_add(padded(content)).saturating_add(12)..).unwrap_or_default();
    }
    false
}

fn bytes_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes_at(bytes, offset).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes_at(bytes, offset).map(u32::from_le_bytes)
}

fn usize_at(bytes: &[u8], offset: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, offset)?).ok()
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(bytes_at(bytes, offset)?)).ok()
}

#[cfg(test)]
mod tests {
    use super::{KernelError, LZ4_BLOCK_BYTES, LZ4_LEGACY, PAYLOAD_LENGTH, PAYLOAD_OFFSET, vmlinux};

    /// An ELF file with one note, larger than one LZ4 block.
    fn elf(note_kind: u32) -> Vec<u8> {
        let mut elf = vec![0; LZ4_BLOCK_BYTES + 1234];
        elf[..4].copy_from_slice(b"\x7fELF");
        elf[32..40].copy_from_slice(&64_u64.to_le_bytes());
        elf[54..56].copy_from_slice(&56_u16.to_le_bytes());
        elf[56..58].copy_from_slice(&1_u16.to_le_bytes());
        elf[64..68].copy_from_slice(&4_u32.to_le_bytes());
        elf[72..80].copy_from_slice(&200_u64.to_le_bytes());
        elf[96..104].copy_from_slice(&52_u64.to_le_bytes());
        // A note of another vendor comes first: its name and content must be skipped with their padding.
        for (at, number) in [(200, 3_u32), (204, 5), (208, 18), (224, 4), (228, 8), (232, note_kind)] {
            elf[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        elf[212..215].copy_from_slice(b"GN\0");
        elf[236..240].copy_from_slice(b"Xen\0");
        elf
    }

    fn bz_image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 3 * 512 + 64];
        image[0x1f1] = 2;
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&64_u32.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap();
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        image.extend_from_slice(payload);
        image
    }

    /// One LZ4 block of literals only, as the block format defines them.
    fn literal_block(content: &[u8]) -> Vec<u8> {
        let mut block = vec![0xf0];
        let mut rest = content.len() - 15;
        while rest >= 255 {
            block.push(255);
            rest -= 255;
        }
        block.push(u8::try_from(rest).unwrap());
        block.extend_from_slice(content);
        block
    }

    fn lz4(content: &[u8]) -> Vec<u8> {
        let mut payload = LZ4_LEGACY.to_vec();
        for chunk in content.chunks(LZ4_BLOCK_BYTES) {
            let block = literal_block(chunk);
            payload.extend_from_slice(&u32::try_from(block.len()).unwrap().to_le_bytes());
            payload.extend_from_slice(&block);
        }
        payload.extend_from_slice(&u32::try_from(content.len()).unwrap().to_le_bytes());
        payload
    }

    #[test]
    fn a_kernel_of_several_blocks_comes_back() {
        let elf = elf(18);
        assert!(vmlinux(&bz_image(&lz4(&elf))).unwrap() == elf);
    }

    #[test]
    fn a_kernel_without_pvh_is_refused() {
        assert!(matches!(vmlinux(&bz_image(&lz4(&elf(17)))), Err(KernelError::NoPvh)));
    }

    #[test]
    fn other_compressions_are_named() {
        let error = vmlinux(&bz_image(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0])).unwrap_err();
        assert_eq!(error.to_string(), "the kernel is compressed with zstd, but only lz4 is supported");
    }

    #[test]
    fn no_cut_of_the_file_is_taken_for_a_kernel() {
        let image = bz_image(&lz4(&elf(18)));
        for length in [0, 0x200, 0x210, 1000, 3 * 512, image.len() / 2, image.len() - 1] {
            assert!(vmlinux(&image[..length]).is_err(), "{length} bytes of {}", image.len());
        }
    }

    #[test]
    fn impossible_lengths_are_damage() {
        let mut payload = LZ4_LEGACY.to_vec();
        payload.extend_from_slice(&u32::MAX.to_le_bytes());
        payload.extend_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(vmlinux(&bz_image(&payload)), Err(KernelError::Damaged(_))));
    }
}
