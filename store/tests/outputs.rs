//! Output files: every byte once, in its place, with the right digest.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use pyro_core::{ExecNumber, Gaps, ShellId, StreamSummary, Timestamp};
use pyro_store::outputs::{OutputError, Outputs, Stream, StreamId, TimeEntry};

use crate::sample;

const STDOUT: StreamId = StreamId::Exec(ExecNumber(3), Stream::Stdout);
const STDERR: StreamId = StreamId::Exec(ExecNumber(3), Stream::Stderr);

fn summary_of(bytes: &[u8]) -> StreamSummary {
    StreamSummary { len_bytes: u64::try_from(bytes.len()).unwrap(), digest: *blake3::hash(bytes).as_bytes() }
}

/// Catches doubled, lost or mixed bytes when a sender repeats what it does not know to have arrived.
#[test]
fn repeated_bytes_are_stored_once() {
    let dir = sample::dir();
    let outputs = Outputs::open(dir.path()).unwrap();
    let workspace = sample::workspace(1);
    let mut writer = outputs.create(workspace, STDOUT).unwrap();
    assert_eq!(writer.append(0, b"hello ", Timestamp(1)).unwrap(), 6);
    assert_eq!(writer.append(2, b"llo wor", Timestamp(2)).unwrap(), 9);
    assert_eq!(writer.append(0, b"hello", Timestamp(3)).unwrap(), 9);
    assert_eq!(writer.append(9, b"", Timestamp(3)).unwrap(), 9);
    let hole = writer.append(10, b"d", Timestamp(4));
    assert!(matches!(hole, Err(OutputError::Hole { expected: 9, offset: 10 })), "{hole:?}");
    assert_eq!(writer.append(9, b"ld\xff\0", Timestamp(5)).unwrap(), 13);
    assert_eq!(writer.sync().unwrap(), 13);
    assert_eq!(writer.finish(&Gaps::default()).unwrap(), summary_of(b"hello world\xff\0"));
    assert_eq!(fs::read(outputs.path(workspace, STDOUT)).unwrap(), b"hello world\xff\0");
    let stored = outputs.summary(workspace, STDOUT, &Gaps::default()).unwrap();
    assert_eq!(stored, Some(summary_of(b"hello world\xff\0")));
    assert_eq!(outputs.summary(workspace, STDERR, &Gaps::default()).unwrap(), None);
}

/// Catches a daemon that goes on at the wrong offset, or with a digest of only its own part.
#[test]
fn a_stream_is_resumed_where_it_ended() {
    let dir = sample::dir();
    let outputs = Outputs::open(dir.path()).unwrap();
    let workspace = sample::workspace(1);
    let bytes: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut writer = outputs.create(workspace, STDERR).unwrap();
    writer.append(0, &bytes[..1_000_001], Timestamp(5)).unwrap();
    drop(writer);
    let again = outputs.create(workspace, STDERR);
    assert!(matches!(again, Err(OutputError::Exists { .. })), "{again:?}");
    let mut writer = outputs.resume(workspace, STDERR, &Gaps::default()).unwrap();
    assert_eq!(writer.len_bytes(), 1_000_001);
    writer.append(999_999, &bytes[999_999..], Timestamp(50_000)).unwrap();
    assert_eq!(writer.finish(&Gaps::default()).unwrap(), summary_of(&bytes));
    let reader = outputs.read(workspace, STDERR).unwrap();
    let entry = |offset, at| TimeEntry { offset, at: Timestamp(at) };
    assert_eq!(reader.times().unwrap(), [entry(0, 5), entry(1_000_001, 50_000)]);
}

/// Catches times that name bytes which a crash took, or grow faster than the output.
#[test]
fn times_follow_the_bytes() {
    let dir = sample::dir();
    let outputs = Outputs::open(dir.path()).unwrap();
    let workspace = sample::workspace(1);
    let mut writer = outputs.create(workspace, STDOUT).unwrap();
    for n in 0..100_000 {
        writer.append(n, b"x", Timestamp(n)).unwrap();
    }
    drop(writer);
    let path = outputs.path(workspace, STDOUT);
    let times = outputs.read(workspace, STDOUT).unwrap().times().unwrap();
    assert_eq!(times.len(), 10);
    fs::File::options().write(true).open(&path).unwrap().set_len(45_000).unwrap();
    let mut torn = fs::File::options().append(true).open(path.with_extension("stdout.times")).unwrap();
    std::io::Write::write_all(&mut torn, b"torn").unwrap();
    let mut writer = outputs.resume(workspace, STDOUT, &Gaps::default()).unwrap();
    writer.append(45_000, b"y", Timestamp(200_000)).unwrap();
    let times = outputs.read(workspace, STDOUT).unwrap().times().unwrap();
    let offsets: Vec<_> = times.iter().map(|entry| entry.offset).collect();
    assert_eq!(offsets, [0, 10_000, 20_000, 30_000, 40_000, 45_000]);
}

/// Catches a reader that does not see what was written after it was opened, or invents bytes at the end.
#[test]
fn a_reader_follows_a_growing_stream() {
    let dir = sample::dir();
    let outputs = Outputs::open(dir.path()).unwrap();
    let workspace = sample::workspace(1);
    let mut buffer = [0; 16];
    let missing = outputs.read(workspace, STDOUT).unwrap();
    assert_eq!((missing.len_bytes().unwrap(), missing.read_at(&mut buffer, 0).unwrap()), (0, 0));
    let mut writer = outputs.create(workspace, STDOUT).unwrap();
    let reader = outputs.read(workspace, STDOUT).unwrap();
    assert_eq!(reader.read_at(&mut buffer, 0).unwrap(), 0);
    writer.append(0, b"grown", Timestamp(0)).unwrap();
    assert_eq!(reader.len_bytes().unwrap(), 5);
    assert_eq!(reader.read_at(&mut buffer, 1).unwrap(), 4);
    assert_eq!(&buffer[..4], b"rown");
}

/// Catches output of one workspace that goes with another's, and files that other users can read.
#[test]
fn workspaces_are_apart_and_private() {
    let dir = sample::dir();
    let outputs = Outputs::open(dir.path().join("outputs")).unwrap();
    for number in [1, 2] {
        let mut writer = outputs.create(sample::workspace(number), STDOUT).unwrap();
        writer.append(0, &[number], Timestamp(0)).unwrap();
        writer.finish(&Gaps::default()).unwrap();
    }
    let path = outputs.path(sample::workspace(2), STDOUT);
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    assert_eq!(
        (mode(&path.with_extension("stdout.times")), mode(&dir.path().join("outputs"))),
        (0o600, 0o700)
    );
    outputs.remove_workspace(sample::workspace(1)).unwrap();
    outputs.remove_workspace(sample::workspace(1)).unwrap();
    assert_eq!(outputs.summary(sample::workspace(1), STDOUT, &Gaps::default()).unwrap(), None);
    assert_eq!(fs::read(path).unwrap(), [2]);
}

/// Catches a shell whose output goes into the file of a command or of another shell, or is found under no name that
/// `docs/log-format.md` tells.
#[test]
fn each_stream_has_its_own_files() {
    let dir = sample::dir();
    let outputs = Outputs::open(dir.path()).unwrap();
    let workspace = sample::workspace(1);
    let shells = [1, 2].map(|number| StreamId::Shell(ShellId::from_bytes([0, 0, 0, 0, 0xab, number])));
    let streams = [STDOUT, STDERR, shells[0], shells[1]];
    for (stream, bytes) in streams.iter().zip([b"out", b"err", b"one", b"two"]) {
        let mut writer = outputs.create(workspace, *stream).unwrap();
        writer.append(0, bytes, Timestamp(0)).unwrap();
        assert_eq!(writer.finish(&Gaps::default()).unwrap(), summary_of(bytes));
    }
    let mut names: Vec<_> = fs::read_dir(outputs.path(workspace, STDOUT).parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected = ["3.stderr", "3.stdout", "shell-00000000ab01", "shell-00000000ab02"];
    let with_times: Vec<_> =
        expected.iter().flat_map(|name| [(*name).to_owned(), format!("{name}.times")]).collect();
    assert_eq!(names, with_times);
    assert_eq!(outputs.summary(workspace, shells[1], &Gaps::default()).unwrap(), Some(summary_of(b"two")));
}

/// Returns how many bytes of the disk a file occupies.
fn space(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    path.metadata().unwrap().blocks() * 512
}

fn gaps(ranges: &[(u64, u64)]) -> Gaps {
    let mut gaps = Gaps::default();
    ranges.iter().for_each(|(from, to)| gaps.add(*from..*to));
    gaps
}

/// Catches a drop that moves, cuts or changes other bytes, or gives no space back; and a digest of a stream with gaps
/// that cannot be computed again, by another process and after a restart in the middle.
#[test]
fn dropped_parts_leave_the_others_as_they_are() {
    let dir = sample::dir();
    let outputs = Outputs::open(dir.path()).unwrap();
    let workspace = sample::workspace(1);
    assert!(outputs.can_drop().unwrap(), "tests run where holes can be made");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "the probe is removed");
    let bytes: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut writer = outputs.create(workspace, STDOUT).unwrap();
    writer.append(0, &bytes[..2_000_000], Timestamp(1)).unwrap();
    outputs.drop_part(workspace, STDOUT, 65_536..1_000_001).unwrap();
    outputs.drop_part(workspace, STDOUT, 65_536..1_000_001).unwrap();
    writer.append(2_000_000, &bytes[2_000_000..3_000_000], Timestamp(2)).unwrap();
    drop(writer);
    let known = gaps(&[(65_536, 1_000_001)]);
    let mut writer = outputs.resume(workspace, STDOUT, &known).unwrap();
    assert_eq!(writer.len_bytes(), 3_000_000);
    writer.append(3_000_000, &bytes[3_000_000..], Timestamp(3)).unwrap();
    outputs.drop_part(workspace, STDOUT, 1_000_001..2_500_000).unwrap();
    let known = gaps(&[(65_536, 2_500_000)]);
    let summary = writer.finish(&known).unwrap();
    let kept = [&bytes[..65_536], &bytes[2_500_000..]].concat();
    assert_eq!(summary, StreamSummary { len_bytes: 4_000_000, ..summary_of(&kept) });
    assert_eq!(outputs.summary(workspace, STDOUT, &known).unwrap(), Some(summary));
    let path = outputs.path(workspace, STDOUT);
    let stored = fs::read(&path).unwrap();
    assert!(stored[..65_536] == bytes[..65_536] && stored[2_500_000..] == bytes[2_500_000..]);
    assert!(space(&path) < 1_700_000, "{} bytes are occupied", space(&path));

    assert!(path.with_extension("stdout.times").exists());
    outputs.drop_part(workspace, STDOUT, 0..4_000_000).unwrap();
    assert_eq!((space(&path), path.metadata().unwrap().len()), (0, 4_000_000));
    assert!(!path.with_extension("stdout.times").exists());
    outputs.drop_part(workspace, STDERR, 0..10).unwrap();
}

/// Catches a writer that hashed a stream from its beginning and does not know that another part of it is dropped.
#[test]
fn the_digest_is_of_what_is_kept_in_the_end() {
    let dir = sample::dir();
    let outputs = Outputs::open(dir.path()).unwrap();
    let workspace = sample::workspace(1);
    let mut writer = outputs.create(workspace, STDOUT).unwrap();
    writer.append(0, b"abcdef", Timestamp(1)).unwrap();
    let summary = writer.finish(&gaps(&[(1, 3), (5, 9)])).unwrap();
    assert_eq!(summary, StreamSummary { len_bytes: 6, ..summary_of(b"ade") });
    let reader = outputs.read(workspace, STDOUT).unwrap();
    assert_eq!(reader.digest(1..4, &gaps(&[(2, 3)])).unwrap(), summary_of(b"bd").digest);
}

/// Catches the times of a stream that is written for days growing without an end, and bytes that are shown of a time
/// when they had not come.
#[test]
fn times_grow_coarser_and_tell_how_long_a_stream_was() {
    let dir = sample::dir();
    let outputs = Outputs::open(dir.path()).unwrap();
    let workspace = sample::workspace(1);
    let mut writer = outputs.create(workspace, STDOUT).unwrap();
    for n in 0..150_000 {
        writer.append(n, b"x", Timestamp(n * 10_000)).unwrap();
    }
    let reader = outputs.read(workspace, STDOUT).unwrap();
    assert_eq!(reader.times().unwrap().len(), 65_536 + (150_000 - 65_536) / 2);
    let len_at = |time| reader.len_at(Timestamp(time), 150_000).unwrap();
    assert_eq!((len_at(0), len_at(9_999), len_at(10_000)), (1, 1, 2));
    assert_eq!((len_at(1_499_990_000), len_at(u64::MAX)), (150_000, 150_000));
}

/// Catches streams that are not found on the disk, or files that are taken for streams.
#[test]
fn streams_are_found_by_their_names() {
    let dir = sample::dir();
    let outputs = Outputs::open(dir.path()).unwrap();
    let workspace = sample::workspace(1);
    assert_eq!(outputs.streams(workspace).unwrap(), []);
    let shell = StreamId::Shell(ShellId::from_bytes([0, 0, 0, 0, 0xab, 1]));
    for (stream, at) in [(shell, 30), (STDERR, 10), (STDOUT, 20)] {
        outputs.create(workspace, stream).unwrap().append(0, b"12345", Timestamp(1)).unwrap();
        let file = fs::File::options().write(true).open(outputs.path(workspace, stream)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_micros(at)).unwrap();
    }
    fs::write(outputs.path(workspace, STDOUT).with_file_name("3.stdin"), "").unwrap();
    let found = outputs.streams(workspace).unwrap();
    let found: Vec<_> =
        found.iter().map(|known| (known.stream, known.len_bytes, known.modified_at.0)).collect();
    assert_eq!(found, [(STDERR, 5, 10), (STDOUT, 5, 20), (shell, 5, 30)]);
}
