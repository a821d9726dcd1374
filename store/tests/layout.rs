//! The formats of `docs/log-format.md`, written a second time.

/// A record taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    pub(crate) kind: u16,
    pub(crate) version: u16,
    pub(crate) flags: u32,
    pub(crate) payload: Vec<u8>,
    pub(crate) offset: usize,
}

pub(crate) const HEADER_LEN: usize = 80;
pub(crate) const HEAD_LEN: usize = 56;

pub(crate) fn records(segment: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut offset = HEADER_LEN;
    while offset < segment.len() {
        let head = &segment[offset..offset + HEAD_LEN];
        let len = usize::try_from(u32::from_le_bytes(head[4..8].try_into().unwrap())).unwrap();
        records.push(Record {
            seq: u64::from_le_bytes(head[8..16].try_into().unwrap()),
            kind: u16::from_le_bytes(head[16..18].try_into().unwrap()),
            version: u16::from_le_bytes(head[18..20].try_into().unwrap()),
            flags: u32::from_le_bytes(head[20..24].try_into().unwrap()),
            payload: segment[offset + HEAD_LEN..offset + HEAD_LEN + len].to_vec(),
            offset,
        });
        offset += HEAD_LEN + len;
    }
    records
}

/// Builds the first segment of a log from records, with right checksums and hashes; returns the last hash too.
pub(crate) fn segment(records: &[Record]) -> (Vec<u8>, [u8; 32]) {
    let mut bytes = vec![0; HEADER_LEN];
    bytes[..8].copy_from_slice(b"PYROSEG\0");
    bytes[12..16].copy_from_slice(&1_u32.to_le_bytes());
    bytes[16..24].copy_from_slice(&1_u64.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[12..80]);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    let mut hash = [0; 32];
    for record in records {
        let mut frame = vec![0; HEAD_LEN];
        frame[4..8].copy_from_slice(&u32::try_from(record.payload.len()).unwrap().to_le_bytes());
        frame[8..16].copy_from_slice(&record.seq.to_le_bytes());
        frame[16..18].copy_from_slice(&record.kind.to_le_bytes());
        frame[18..20].copy_from_slice(&record.version.to_le_bytes());
        frame[20..24].copy_from_slice(&record.flags.to_le_bytes());
        frame[24..56].copy_from_slice(&hash);
        frame.extend_from_slice(&record.payload);
        hash = *blake3::hash(&frame[4..]).as_bytes();
        frame[24..56].copy_from_slice(&hash);
        let checksum = crc32fast::hash(&frame[4..]);
        frame[..4].copy_from_slice(&checksum.to_le_bytes());
        bytes.extend_from_slice(&frame);
    }
    (bytes, hash)
}

/// Corrects the checksum of the record at `offset`, as somebody would who edits the log by hand.
pub(crate) fn correct_checksum(segment: &mut [u8], offset: usize) {
    let len =
        usize::try_from(u32::from_le_bytes(segment[offset + 4..offset + 8].try_into().unwrap())).unwrap();
    let checksum = crc32fast::hash(&segment[offset + 4..offset + HEAD_LEN + len]);
    segment[offset..offset + 4].copy_from_slice(&checksum.to_le_bytes());
}

pub(crate) fn anchor(seq: u64, hash: &[u8; 32]) -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[..8].copy_from_slice(b"PYROANC\0");
    bytes[12..16].copy_from_slice(&1_u32.to_le_bytes());
    bytes[16..24].copy_from_slice(&seq.to_le_bytes());
    bytes[24..56].copy_from_slice(hash);
    let checksum = crc32fast::hash(&bytes[12..56]);
    bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    bytes
}
