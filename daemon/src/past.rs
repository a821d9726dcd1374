//! States as they were: by folding the events up to a place in the log.

use pyro_api::LogPoint;
use pyro_core::{Seq, State, Timestamp, evolve};
use pyro_store::{Checkpoints, ReadError, Reader};

/// Returns the state at a place of the log; `None` when the log does not reach it.
///
/// Begins with the latest checkpoint before it, or with what was compacted. At a time, everything had happened that stands before
/// the first later event.
pub(crate) fn state_at(
    reader: &Reader,
    checkpoints: &Checkpoints,
    point: LogPoint,
) -> Result<Option<State>, ReadError> {
    let last = match point {
        LogPoint::Seq(seq) => seq,
        LogPoint::Time(time) => last_until(reader, time)?,
    };
    if last > reader.head().seq {
        return Ok(None);
    }
    if last.next() < reader.first() {
        return Err(ReadError::Compacted { first: reader.first() });
    }
    let mut state = checkpoints.latest_until(last).unwrap_or_else(|| reader.beginning());
    for envelope in reader.read(state.seq.next()) {
        let envelope = envelope?;
        if envelope.seq > last {
            break;
        }
        evolve(&mut state, &envelope);
    }
    Ok(Some(state))
}

/// Returns the last event before the first one that is later than a time. Clocks are set back now and then, so all
/// events up to it are looked at.
fn last_until(reader: &Reader, time: Timestamp) -> Result<Seq, ReadError> {
    let first = reader.first();
    let mut last = match reader.base() {
        Some(base) if base.until > time => return Err(ReadError::Compacted { first }),
        Some(base) => base.dropped.seq,
        None => Seq::ZERO,
    };
    for envelope in reader.read(first) {
        let envelope = envelope?;
        if envelope.at > time {
            break;
        }
        last = envelope.seq;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use pyro_core::{Actor, Cause, Command, Event, Face, Limits, LimitsChanged};
    use pyro_store::{Draft, EventLog, Options, Retention};

    use super::*;
    use crate::compaction;

    fn draft(number: u64, at: u64) -> Draft {
        let limits = Limits { guests_max: u32::try_from(number).unwrap(), ..Limits::default() };
        let actor = Actor { face: Face::Daemon, uid: 0, pid: 1, client: "test".to_owned() };
        let event = Event::LimitsChanged(LimitsChanged { limits });
        Draft { at: Timestamp(at), actor, cause: Cause::Observation, event }
    }

    /// Catches a state of another moment, with and without a checkpoint before or behind it.
    #[test]
    fn the_past_is_what_the_events_up_to_it_give() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::open(dir.path(), Options::default()).unwrap();
        // The clock is set back between 20 and 21.
        log.append((1..=20).map(|number| draft(number, number * 10)).collect()).unwrap();
        log.append(vec![draft(21, 30)]).unwrap();
        let (reader, checkpoints) = (log.reader(), log.checkpoints());
        let at = |point| state_at(&reader, &checkpoints, point).unwrap();
        let mut states = vec![State::default()];
        for envelope in reader.read(Seq(1)) {
            let mut state = states.last().cloned().unwrap();
            evolve(&mut state, &envelope.unwrap());
            states.push(state);
        }
        for checkpoint in [None, Some(7), Some(15)] {
            if let Some(seq) = checkpoint {
                checkpoints.save(&states[seq]).unwrap();
            }
            for (seq, state) in states.iter().enumerate() {
                assert_eq!(at(LogPoint::Seq(Seq(seq as u64))).as_ref(), Some(state), "{seq}, {checkpoint:?}");
            }
        }
        assert_eq!(at(LogPoint::Seq(Seq(22))), None);
        for (time, seq) in [(0, 0), (9, 0), (10, 1), (35, 3), (200, 21), (u64::MAX, 21)] {
            assert_eq!(at(LogPoint::Time(Timestamp(time))).as_ref(), Some(&states[seq]), "{time}");
        }
    }

    /// Catches a past that was compacted and is made up, and one that is refused although it is there.
    #[test]
    fn the_past_begins_with_what_was_compacted() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::open(dir.path(), Options::default()).unwrap();
        log.append((1..=9).map(|number| draft(number, number * 10)).collect()).unwrap();
        let (reader, checkpoints, compactor) = (log.reader(), log.checkpoints(), log.compactor());
        let at = |point| state_at(&reader, &checkpoints, point);
        let before = at(LogPoint::Seq(Seq(9))).unwrap();
        compactor.roll().unwrap();
        let policy = Retention { before: Some(Seq(10)), ..Retention::default() };
        let written = compactor.plan(policy).unwrap().unwrap().write().unwrap();
        let Command::CompactLog(event) = compaction::signature(written.info()) else {
            panic!("another command")
        };
        let event = Event::LogCompacted(event);
        log.append(vec![Draft { event, ..draft(10, 100) }]).unwrap();
        written.finish().unwrap();
        for early in [LogPoint::Seq(Seq(8)), LogPoint::Seq(Seq(0)), LogPoint::Time(Timestamp(89))] {
            assert!(matches!(at(early), Err(ReadError::Compacted { first: Seq(10) })), "{early:?}");
        }
        assert_eq!(at(LogPoint::Seq(Seq(9))).unwrap(), before);
        assert_eq!(at(LogPoint::Time(Timestamp(90))).unwrap(), before);
        let after = at(LogPoint::Time(Timestamp(100))).unwrap().unwrap();
        assert_eq!(after.compacted.map(|known| known.first), Some(Seq(10)));
    }
}
