//! Rules for the host: daemon, limits, probes, environments.

use alloc::vec;
use alloc::vec::Vec;

use crate::event::{
    BackendProbed, DaemonStarted, DaemonStopped, EnvironmentInstallFailed, EnvironmentInstalled,
    EnvironmentRemoved, Event, LimitsChanged,
};
use crate::limits::Limits;
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

pub(super) fn probed(fact: &BackendProbed) -> Vec<Event> {
    vec![Event::BackendProbed(fact.clone())]
}

pub(super) fn environment_installed(fact: &EnvironmentInstalled) -> Vec<Event> {
    vec![Event::EnvironmentInstalled(fact.clone())]
}

pub(super) fn environment_install_failed(fact: &EnvironmentInstallFailed) -> Vec<Event> {
    vec![Event::EnvironmentInstallFailed(fact.clone())]
}

pub(super) fn environment_removed(fact: &EnvironmentRemoved) -> Vec<Event> {
    vec![Event::EnvironmentRemoved(fact.clone())]
}
