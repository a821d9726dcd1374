//! Input of a shell, as far as one connection has given it to the agent.

use bytes::Bytes;
use pyro_protocol::{INPUT_DATA_MAX, INPUT_HELD_MAX, Input, InputProgress};

/// Gives each byte once over one connection and never more than the agent holds.
#[derive(Debug)]
pub(super) struct InputSide {
    /// Position behind the last byte that the host was ever asked to type, over whichever connection: the agent cannot
    /// have received more.
    known: u64,
    /// Position of the next byte to give, and what the agent said last; `None` before it has said anything.
    standing: Option<Standing>,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    next: u64,
    told: InputProgress,
}

impl InputSide {
    pub(super) const fn new(known: u64) -> Self {
        Self { known, standing: None }
    }

    /// Takes what the agent says; an error tells what is wrong with it.
    pub(super) fn observe(&mut self, told: InputProgress) -> Result<(), &'static str> {
        let before = self.standing.map(|standing| standing.told).unwrap_or_default();
        if told.received < before.received || told.consumed < before.consumed {
            return Err("the input of its shell goes back");
        }
        if told.consumed > told.received {
            return Err("its shell has consumed more input than it received");
        }
        if told.received > self.known {
            return Err("its shell has received more input than there is");
        }
        // It may still have read what came over an earlier connection.
        let next = self.standing.map_or(0, |standing| standing.next).max(told.received);
        self.standing = Some(Standing { next, told });
        Ok(())
    }

    /// Returns the part of these bytes that is due now, in frames.
    ///
    /// # Panics
    ///
    /// When bytes between those given before and these are missing.
    pub(super) fn give(&mut self, offset: u64, data: &[u8]) -> Vec<Input> {
        self.known = self.known.max(offset + data.len() as u64);
        let Some(Standing { next, told }) = &mut self.standing else { return Vec::new() };
        let given = next.checked_sub(offset).expect("input follows on the input before");
        let given = usize::try_from(given).unwrap_or(usize::MAX);
        let held = usize::try_from(*next - told.consumed).unwrap_or(usize::MAX);
        let fresh = data.get(given..).unwrap_or_default();
        let due = &fresh[..fresh.len().min(INPUT_HELD_MAX.saturating_sub(held))];
        let frames = due.chunks(INPUT_DATA_MAX).map(|part| {
            let input = Input { offset: *next, data: Bytes::copy_from_slice(part) };
            *next += part.len() as u64;
            input
        });
        frames.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(received: u64, consumed: u64) -> InputProgress {
        InputProgress { received, consumed }
    }

    fn shape(frames: &[Input]) -> Vec<(u64, usize)> {
        frames.iter().map(|input| (input.offset, input.data.len())).collect()
    }

    /// Catches bytes that are typed twice or left out when a new connection stands elsewhere than the old one.
    #[test]
    fn input_goes_on_where_the_agent_stands() {
        let mut side = InputSide::new(10);
        assert!(side.give(4, b"456789").is_empty(), "the agent has not said where it stands");
        side.observe(told(7, 5)).unwrap();
        assert_eq!(shape(&side.give(4, b"456789")), [(7, 3)]);
        assert!(side.give(4, b"456789").is_empty());
        assert_eq!(shape(&side.give(9, b"9ab")), [(10, 2)]);
        side.observe(told(12, 5)).unwrap();
        assert!(side.give(12, b"").is_empty());
    }

    /// Catches a host that sends more than the agent holds, upon which the agent ends the connection.
    #[test]
    fn no_more_is_given_than_the_agent_holds() {
        let mut side = InputSide::new(0);
        side.observe(told(0, 0)).unwrap();
        let data = vec![b'x'; INPUT_HELD_MAX + 10];
        let frames = side.give(0, &data);
        assert_eq!(frames.iter().map(|input| input.data.len()).sum::<usize>(), INPUT_HELD_MAX);
        assert!(frames.iter().all(|input| input.data.len() <= INPUT_DATA_MAX));
        let full = INPUT_HELD_MAX as u64;
        side.observe(told(full, 4)).unwrap();
        assert_eq!(shape(&side.give(0, &data)), [(full, 4)]);
        side.observe(told(full, 10)).unwrap();
        assert_eq!(shape(&side.give(0, &data)), [(full + 4, 6)]);
    }
}
