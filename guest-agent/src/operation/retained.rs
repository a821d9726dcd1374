//! Bytes of a stream that were read and not taken yet: output that is not acknowledged, input that is not typed.

use pyro_protocol::STREAM_RETAINED_MAX;

/// Capacity with which a buffer starts: most commands write less.
const CAPACITY_MIN: usize = 16 * 1024;

/// A circular buffer of the bytes `start..end` of one stream.
///
/// It grows by doubling up to [`STREAM_RETAINED_MAX`] and reads land in it without a copy.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    /// Position in the stream of the first byte.
    start: u64,
    /// Index of the first byte in `ring`.
    head: usize,
    len: usize,
    ring: Vec<u8>,
}

impl Retained {
    /// Returns the position of the first byte that is kept.
    pub(crate) const fn start(&self) -> u64 {
        self.start
    }

    /// Returns the position behind the last byte that was read.
    pub(crate) const fn end(&self) -> u64 {
        self.start + self.len as u64
    }

    /// Returns how many bytes are kept.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether nothing more can be taken before an acknowledgement.
    pub(crate) const fn is_full(&self) -> bool {
        self.len == STREAM_RETAINED_MAX
    }

    /// Lets `read` fill at most `max` bytes behind the end; it returns how many it filled. Returns that number.
    ///
    /// The space it is given is empty only when the buffer is full or `max` is zero.
    pub(crate) fn fill<E>(
        &mut self,
        max: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        if self.len == self.ring.len() {
            self.grow();
        }
        let capacity = self.ring.len();
        let tail = self.head + self.len;
        let space = if tail < capacity { tail..capacity } else { tail - capacity..self.head };
        let space = space.start..space.end.min(space.start.saturating_add(max));
        let room = space.len();
        let filled = read(&mut self.ring[space])?;
        assert!(filled <= room, "a read fills only the space that it is given");
        self.len += filled;
        Ok(filled)
    }

    /// Adds the bytes behind the end.
    ///
    /// # Panics
    ///
    /// When there is no room for them.
    pub(crate) fn append(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            assert!(!self.is_full(), "only bytes for which there is room are added");
            let added = self.fill(usize::MAX, |space| {
                let n = space.len().min(bytes.len());
                space[..n].copy_from_slice(&bytes[..n]);
                Ok::<_, std::convert::Infallible>(n)
            });
            let Ok(added) = added;
            bytes = &bytes[added..];
        }
    }

    fn grow(&mut self) {
        let capacity = (self.ring.len() * 2).clamp(CAPACITY_MIN, STREAM_RETAINED_MAX);
        if capacity > self.ring.len() {
            // Linear again, so that the new space is one piece behind the end.
            self.ring.rotate_left(self.head);
            self.head = 0;
            self.ring.resize(capacity, 0);
        }
    }

    /// Returns the bytes from `offset` on, at most `max`, in their order; they are in two pieces where the
    /// ring wraps.
    ///
    /// # Panics
    ///
    /// When `offset` is outside of what is kept.
    pub(crate) fn slices(&self, offset: u64, max: usize) -> [&[u8]; 2] {
        assert!(self.start <= offset && offset <= self.end(), "only kept bytes are looked at");
        let skip = usize::try_from(offset - self.start).expect("not more than the capacity");
        let len = max.min(self.len - skip);
        if len == 0 {
            return [&[], &[]];
        }
        let from = (self.head + skip) % self.ring.len();
        let first = len.min(self.ring.len() - from);
        [&self.ring[from..from + first], &self.ring[..len - first]]
    }

    /// Drops the bytes before `offset`; without effect when they are gone already.
    ///
    /// # Panics
    ///
    /// When `offset` is behind the end.
    pub(crate) fn release(&mut self, offset: u64) {
        assert!(offset <= self.end(), "only bytes that exist are released");
        let Some(dropped) = offset.checked_sub(self.start) else {
            return;
        };
        let dropped = usize::try_from(dropped).expect("not more than the capacity");
        self.start = offset;
        self.len -= dropped;
        // An empty ring starts over at its first byte, which keeps what follows in one piece.
        self.head = if self.len == 0 { 0 } else { (self.head + dropped) % self.ring.len() };
    }

    /// Gives the memory back when nothing is kept.
    pub(crate) fn shrink(&mut self) {
        if self.len == 0 {
            self.head = 0;
            self.ring = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn push(buffer: &mut Retained, bytes: &[u8]) -> usize {
        buffer
            .fill::<()>(usize::MAX, |space| {
                let n = space.len().min(bytes.len());
                space[..n].copy_from_slice(&bytes[..n]);
                Ok(n)
            })
            .unwrap()
    }

    #[test]
    fn a_full_buffer_gives_no_space() {
        let mut buffer = Retained::default();
        let bytes = vec![7; STREAM_RETAINED_MAX];
        while !buffer.is_full() {
            assert!(push(&mut buffer, &bytes) > 0);
        }
        assert_eq!(push(&mut buffer, &bytes), 0);
        assert_eq!(buffer.end(), STREAM_RETAINED_MAX as u64);
        buffer.release(1);
        assert_eq!(push(&mut buffer, &bytes), 1);
    }

    /// Across growth and the place where the ring wraps.
    #[test]
    fn appended_bytes_are_kept_in_their_order() {
        let mut buffer = Retained::default();
        let bytes: Vec<u8> = (0..STREAM_RETAINED_MAX).map(|i| u8::try_from(i % 251).unwrap()).collect();
        buffer.append(&bytes[..10_000]);
        buffer.release(9_000);
        buffer.append(&bytes[10_000..]);
        assert_eq!(buffer.len(), STREAM_RETAINED_MAX - 9_000);
        assert_eq!(buffer.slices(9_000, usize::MAX).concat(), &bytes[9_000..]);
    }

    #[test]
    fn a_shrunk_buffer_goes_on_at_its_offset() {
        let mut buffer = Retained::default();
        push(&mut buffer, b"abc");
        buffer.release(3);
        buffer.shrink();
        push(&mut buffer, b"de");
        assert_eq!((buffer.start(), buffer.end()), (3, 5));
        assert_eq!(buffer.slices(4, 9).concat(), b"e");
    }

    proptest! {
        /// Against a plain vector of the whole stream: no byte is lost, doubled or moved across wraps and growth.
        #[test]
        fn it_is_a_window_on_the_stream(steps in proptest::collection::vec((0_usize..40_000, 0_usize..100), 1..60)) {
            let mut buffer = Retained::default();
            let mut stream = Vec::new();
            for (write, release_percent) in steps {
                let bytes: Vec<u8> = (0..write).map(|i| u8::try_from((stream.len() + i) % 251).unwrap()).collect();
                let taken = push(&mut buffer, &bytes);
                stream.extend_from_slice(&bytes[..taken]);
                prop_assert_eq!(buffer.end(), stream.len() as u64);
                let kept = stream.len() - usize::try_from(buffer.start()).unwrap();
                buffer.release(buffer.start() + (kept * release_percent / 100) as u64);
                let from = usize::try_from(buffer.start()).unwrap();
                prop_assert_eq!(buffer.slices(buffer.start(), usize::MAX).concat(), &stream[from..]);
                let half = from + (stream.len() - from) / 2;
                let end = stream.len().min(half + 1000);
                prop_assert_eq!(buffer.slices(half as u64, 1000).concat(), &stream[half..end]);
            }
        }
    }
}
