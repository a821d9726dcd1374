//! Captured output against the obvious implementation: keep everything, cut at the end.

use proptest::prelude::*;
use pyro_api::{CAPTURED_HEAD_BYTES, CAPTURED_TAIL_BYTES, CapturedStream};

const KEPT: usize = CAPTURED_HEAD_BYTES + CAPTURED_TAIL_BYTES;

fn captured<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> CapturedStream {
    let mut stream = CapturedStream::new();
    for chunk in chunks {
        stream.push(chunk);
    }
    stream
}

/// Printable ASCII whose period divides no power of two, so that every shift shows.
fn text(len: usize) -> Vec<u8> {
    (b' '..b'~').cycle().take(len).collect()
}

#[test]
fn stream_of_exactly_the_limit_is_whole() {
    let whole = captured([text(KEPT).as_slice()]).into_text();
    assert!(whole.text.as_bytes() == text(KEPT) && !whole.truncated && !whole.lossy);
    let cut = captured([text(KEPT + 1).as_slice()]).into_text();
    assert!(cut.truncated && !cut.lossy && cut.text.len() == KEPT);
    assert_eq!(cut.len_bytes, u64::try_from(KEPT + 1).unwrap());
}

#[test]
fn cut_goes_between_characters() {
    // A three-byte character lies across the end of the head, another one across the beginning of the tail.
    for shift in 0..6 {
        let mut bytes = text(shift);
        bytes.extend("漢".repeat(KEPT / 3 + 1000).bytes());
        let cut = captured([bytes.as_slice()]).into_text();
        assert!(cut.truncated && !cut.lossy, "shift {shift}");
        assert!(!cut.text.contains('\u{fffd}') && cut.text.len() > KEPT - 6);
    }
}

#[test]
fn character_between_head_and_tail_of_a_whole_stream_stays() {
    let mut bytes = text(CAPTURED_HEAD_BYTES - 1);
    bytes.extend("漢字".bytes());
    let whole = captured([bytes.as_slice()]).into_text();
    assert!(whole.text.ends_with("漢字") && !whole.lossy && !whole.truncated);
}

/// Catches a result that joins what a gap divides without a word.
#[test]
fn what_is_dropped_is_left_out_and_reported() {
    let mut stream = captured([b"begin".as_slice()]);
    stream.skip(7);
    stream.push(b"middle");
    stream.skip(1);
    stream.push(b"end");
    let text = stream.into_text();
    assert_eq!((text.text.as_str(), text.len_bytes, text.truncated), ("beginend", 22, true));
}

#[test]
fn bytes_that_are_no_text_are_replaced_and_reported() {
    let lossy = captured([b"a\xff".as_slice(), b"\xfeb"]).into_text();
    assert_eq!((lossy.text.as_str(), lossy.lossy, lossy.truncated), ("a\u{fffd}\u{fffd}b", true, false));
    assert!(captured([b"cut \xe6\xbc".as_slice()]).into_text().lossy);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Catches any dependence on how the stream arrives, and any byte that is kept in the wrong place.
    #[test]
    fn beginning_and_end_are_kept(
        lens in prop::collection::vec(prop_oneof![0_usize..2000, 0..CAPTURED_HEAD_BYTES, 0..2 * KEPT], 1..6),
    ) {
        let bytes = text(lens.iter().sum());
        let mut rest = bytes.as_slice();
        let chunks = lens.iter().map(|len| {
            let (chunk, behind) = rest.split_at(*len);
            rest = behind;
            chunk
        });
        let stream = captured(chunks);
        let kept = stream.into_text();
        let expected = if bytes.len() <= KEPT {
            bytes.clone()
        } else {
            [&bytes[..CAPTURED_HEAD_BYTES], &bytes[bytes.len() - CAPTURED_TAIL_BYTES..]].concat()
        };
        prop_assert!(kept.text.as_bytes() == expected, "{} bytes", bytes.len());
        prop_assert_eq!(kept.truncated, bytes.len() > KEPT);
        prop_assert_eq!(kept.len_bytes, u64::try_from(bytes.len()).unwrap());
    }
}
