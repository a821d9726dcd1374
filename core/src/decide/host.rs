//! Rules for the host: daemon, limits, probes, environments.

use alloc::vec;
use alloc::vec::Vec;

use crate::event::{
    BackendProbed, ClockObserved, DaemonStarted, DaemonStopped, EnvironmentInstallFailed,
    EnvironmentInstalled, EnvironmentRemoved, Event, LimitsChanged, LogCompacted, Mounted, Unmounted,
};
use crate::limits::Limits;
use crate::rejection::Rejection;
use crate::state::State;

pub(super) fn daemon_started(fact: &DaemonStarted) -> Vec<Event> {
    vec![Event::DaemonStarted(fact.clone())]
}

pub(super) fn daemon_stopped(fact: &DaemonStopped) -> Vec<Event> {
    vec![Event::DaemonStopped(fact.clone())]
}

pub(super) fn limits(state: &State, limits: Limits) -> Vec<Event> {
    if state.limits == limits { Vec::new() } else { vec![Event::LimitsChanged(LimitsChanged { limits })] }
}

/// A clock that is slewed drifts a little all the time; less than this is not worth an event.
const CLOCK_TOLERANCE_US: u64 = 1_000_000;

pub(super) fn clock(state: &State, fact: &ClockObserved) -> Vec<Event> {
    let as_before = state.clock.as_ref().is_some_and(|known| {
        known.host_boot_id == fact.host_boot_id
            && known.offset_us.abs_diff(fact.offset_us) < CLOCK_TOLERANCE_US
    });
    if as_before { Vec::new() } else { vec![Event::ClockObserved(fact.clone())] }
}

pub(super) fn mounted(state: &State, fact: &Mounted) -> Vec<Event> {
    // A daemon that shows what an earlier one showed has nothing to tell.
    if state.mounts.get(&fact.path) == Some(fact) { Vec::new() } else { vec![Event::Mounted(fact.clone())] }
}

pub(super) fn unmounted(state: &State, fact: &Unmounted) -> Result<Vec<Event>, Rejection> {
    if state.mounts.contains_key(&fact.path) {
        Ok(vec![Event::Unmounted(fact.clone())])
    } else {
        Err(Rejection::Stale)
    }
}

/// A log is dropped from its beginning only, and never a second time.
pub(super) fn compact_log(state: &State, fact: &LogCompacted) -> Result<Vec<Event>, Rejection> {
    let min = state.compacted.as_ref().map_or(2, |known| known.first.0 + 1);
    let (value, max) = (fact.first.0, state.seq.0 + 1);
    if (min..=max).contains(&value) {
        Ok(vec![Event::LogCompacted(fact.clone())])
    } else {
        Err(Rejection::OutOfRange { field: "the first event that is kept", value, min, max })
    }
}

pub(super) fn probed(fact: &BackendProbed) -> Vec<Event> {
    vec![Event::BackendProbed(fact.clone())]
}

pub(super) fn environment_installed(fact: &EnvironmentInstalled) -> Vec<Event> {
    vec![Event::EnvironmentInstalled(fact.clone())]
}

pub(super) fn environment_install_failed(fact: &EnvironmentInstallFailed) -> Vec<Event> {
    vec![Event::EnvironmentInstallFailed(fact.clone())]
}

pub(super) fn environments_removed(facts: &[EnvironmentRemoved]) -> Vec<Event> {
    facts.iter().cloned().map(Event::EnvironmentRemoved).collect()
}
