//! The ways in which a stream of bytes may arrive.

/// Inputs up to this length are also fed byte by byte; beyond it that is slow and shows nothing new.
const BY_BYTE_LEN_MAX: usize = 4096;

/// Returns several divisions of `input`, among them all of it at once.
pub(super) fn divisions(input: &[u8]) -> Vec<Vec<&[u8]>> {
    // The places depend on the bytes, so that mutations move them.
    let sum = input.iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(*byte)));
    let (head, tail) = input.split_at(sum.checked_rem(input.len()).unwrap_or(0));
    let mut divisions = vec![vec![input], vec![head, tail], input.chunks(sum % 13 + 1).collect()];
    if input.len() <= BY_BYTE_LEN_MAX {
        divisions.push(input.chunks(1).collect());
    }
    divisions
}
