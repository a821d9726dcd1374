//! Kills the daemon at moments that a seed chooses, and looks what the next one makes of it.

use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use super::call::{Ending, Fate, call};
use super::chance::Chance;
use super::client::{World, is_unavailable};
use super::daemon::{Daemon, StartLock, Traces};
use super::history::{Answer, History, Pulse};

/// Longest time that the nemesis waits for clients to do something.
const PATIENCE: Duration = Duration::from_secs(5);
/// A recovery is given so much time between two traces before its daemon is killed anyway.
const TRACE_PATIENCE: Duration = Duration::from_millis(200);
/// Most calls until somebody answers after a kill.
const CALLS_MAX: u32 = 20;
/// So often the whole log is exported and compared with the export before.
const KILLS_PER_EXPORT: u32 = 10;

/// What the nemesis did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deeds {
    /// Daemons killed.
    pub kills: u32,
    /// Of these, daemons that were not ready yet.
    pub kills_in_recovery: u32,
    /// Guests killed.
    pub guests: u32,
    /// Times from a kill, or from the end of the check behind it, to the first answer of the next daemon.
    pub recoveries: Vec<Duration>,
}

/// Kills until it has killed enough.
#[derive(Debug)]
pub(super) struct Nemesis<'a> {
    world: &'a World<'a>,
    chance: Chance,
    kills_guests: bool,
    exported: Vec<u8>,
    deeds: Deeds,
}

impl<'a> Nemesis<'a> {
    /// Makes a nemesis that has done nothing yet.
    #[must_use]
    pub(super) fn new(world: &'a World<'a>, chance: &Chance, kills_guests: bool) -> Self {
        let (chance, exported) = (chance.split(u64::MAX), Vec::new());
        Self { world, chance, kills_guests, exported, deeds: Deeds::default() }
    }

    /// Kills that many daemons, telling of each.
    pub(super) fn rage(mut self, kills: u32, tell: &mut dyn FnMut(&Deeds, &History)) -> Deeds {
        while self.deeds.kills < kills {
            self.await_moment();
            if self.kills_guests && self.chance.one_in(12) {
                self.kill_guest();
            }
            self.kill_daemon();
            if self.deeds.kills.is_multiple_of(KILLS_PER_EXPORT) {
                self.export();
            }
            tell(&self.deeds, self.world.history);
        }
        self.deeds
    }

    fn await_moment(&mut self) {
        let pulse = *self.chance.pick(&[Pulse::Reply, Pulse::Output, Pulse::Call]).expect("there are some");
        let times = 1 + self.chance.below(8);
        self.world.history.wait(pulse, times, PATIENCE);
    }

    fn kill_daemon(&mut self) {
        // While the lock is held no other daemon comes: what the killed one left can be checked as it is.
        let lock = self.chance.one_in(2).then(|| StartLock::hold(self.world.pyro));
        let Some(daemon) = Daemon::find(self.world.pyro) else {
            drop(lock);
            self.first_answer();
            return;
        };
        if self.chance.one_in(2) {
            daemon.linger(Duration::from_micros(self.chance.below(20_000)));
        }
        self.deeds.kills += u32::from(daemon.kill());
        if lock.is_some() {
            self.verify("without a daemon");
        }
        let watched = self.chance.one_in(4).then(|| Traces::watch(self.world.pyro.home()));
        drop(lock);
        let killed = Instant::now();
        let after = self.chance.below(24);
        let killed_again = std::thread::scope(|scope| {
            scope.spawn(|| self.first_answer());
            watched.is_some_and(|traces| {
                traces.wait(1 + after, TRACE_PATIENCE);
                Daemon::find(self.world.pyro).is_some_and(|recovering| recovering.kill())
            })
        });
        if killed_again {
            self.deeds.kills += 1;
            self.deeds.kills_in_recovery += 1;
            self.first_answer();
        } else {
            self.deeds.recoveries.push(killed.elapsed());
        }
        self.verify("with a daemon");
    }

    fn call(&self, arguments: &[&str]) -> Ending {
        call(self.world.pyro, self.world.history, arguments, Fate::Waits)
    }

    /// Asks until a daemon answers; the first call starts one if need be.
    fn first_answer(&self) {
        for _ in 0..CALLS_MAX {
            match self.call(&["workspace", "list", "--json"]).answer() {
                Answer::Done(_) => return,
                Answer::Failed(code) if is_unavailable(&code) => {}
                other => self.world.history.violation("no answer", format!("to a list: {other:?}")),
            }
        }
        self.world.history.violation("no answer", format!("to {CALLS_MAX} lists after a kill"));
    }

    fn verify(&self, when: &str) {
        let ending = self.call(&["log", "verify", "--json"]);
        if ending.code != Some(0) {
            let told = String::from_utf8_lossy(&ending.stdout);
            let what = format!("after {} kills, {when}: {told}{}", self.deeds.kills, ending.stderr);
            self.world.history.violation("verify", what);
        }
    }

    /// Exports the log: what it said before, it must say now.
    fn export(&mut self) {
        let ending = self.call(&["log", "export", "--format", "jsonl"]);
        if ending.code == Some(0) {
            if !ending.stdout.starts_with(&self.exported) {
                let what = format!("after {} kills the log does not begin as it did", self.deeds.kills);
                self.world.history.violation("rewritten", what);
            }
            self.exported = ending.stdout;
        }
    }

    /// Kills a guest, if the one that was chosen runs.
    fn kill_guest(&mut self) {
        let workspaces = self.world.workspaces().clone();
        let Some(workspace) = self.chance.pick(&workspaces) else { return };
        let log = self.call(&[
            "log",
            "--json",
            "--kind",
            "workspace_started",
            "--workspace",
            workspace,
            "--limit",
            "1",
        ]);
        let Ok(started) = serde_json::from_slice::<Value>(&log.stdout) else { return };
        let pid = started["data"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { return };
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        // The pid may be somebody else's by now. Behind the descriptor it cannot become so any more.
        let ours = self.world.pyro.processes().iter().any(|(other, _)| *other == pid.as_raw_nonzero().get());
        if ours && pidfd_send_signal(&pidfd, Signal::KILL).is_ok() {
            self.deeds.guests += 1;
        }
    }
}
