//! The simulated host: its disk, clock, guests, clients and daemon, and what happens to them.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyro_core::{Timestamp, WorkspaceId};
use pyro_store::disk::{Call, Failure, Fault, Honesty, MemoryDisk, Times};

use super::client::Clients;
use super::daemon::Daemon;
use super::defect::Defect;
use super::guest::Guests;
use super::model::Model;
use super::random::Random;
use crate::clock::Reading;

/// Most things that happen in one schedule before it calms down.
const STEPS_MAX: u64 = 1_000;

/// Things that may happen until everything is settled once nothing goes wrong any more. Far more than it takes: who
/// needs more waits for something that does not come.
const CALM_STEPS: u32 = 20_000;

/// The wall clock's lead over the time since the first boot, in microseconds.
const OFFSET_US: u64 = 1_000_000_000_000_000;

thread_local! {
    /// The clock of the host that is simulated on this thread.
    static CLOCK: Cell<Reading> = const { Cell::new(Reading { wall: Timestamp(0), since_boot_us: 0 }) };
}

/// Reads the simulated clock.
pub(super) fn read_clock() -> Reading {
    CLOCK.get()
}

/// What came of one schedule.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What must not be; `None` when all is well.
    pub(super) violation: Option<String>,
    /// All that happened, a line each.
    pub(super) history: Vec<String>,
}

/// Whether the history is wanted: to write it takes longer than to make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum History {
    Kept,
    Dropped,
}

/// Runs the schedule of a seed.
pub(super) fn run(seed: u64, defect: Option<Defect>, history: History) -> Outcome {
    let mut world = World::new(seed, defect);
    world.keeps_history = history == History::Kept;
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = ran {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.violate(text.unwrap_or_else(|| "a panic".to_owned()));
    }
    Outcome { violation: world.violation, history: world.history }
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) defect: Option<Defect>,
    pub(super) disk: MemoryDisk,
    /// The disk before the last group, for a log that loses it.
    pub(super) older: Option<MemoryDisk>,
    pub(super) guests: Guests,
    pub(super) daemon: Option<Daemon>,
    pub(super) clients: Clients,
    pub(super) model: Model,
    pub(super) violation: Option<String>,
    history: Vec<String>,
    keeps_history: bool,
    /// How often the host was booted.
    pub(super) host_boot: u32,
    /// How much goes wrong, in percent of what can: a schedule in which little does gets further.
    unrest: u64,
    /// Nothing goes wrong any more, and nobody wants anything new.
    pub(super) calm: bool,
}

impl World {
    fn new(seed: u64, defect: Option<Defect>) -> Self {
        CLOCK.set(Reading { wall: Timestamp(OFFSET_US), since_boot_us: 0 });
        let mut random = Random::new(seed);
        let unrest = 5 + random.below(95);
        let world = Self {
            random,
            unrest,
            defect,
            disk: MemoryDisk::new(),
            older: None,
            guests: Guests::new(defect),
            daemon: None,
            clients: Clients::default(),
            model: Model::default(),
            violation: None,
            history: Vec::new(),
            keeps_history: true,
            host_boot: 1,
            calm: false,
        };
        world.set_honesty();
        world
    }

    /// Notes what happened.
    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.keeps_history {
            self.history.push(line());
        }
    }

    /// Notes what must not happen; the first time counts.
    pub(super) fn violate(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.history.push(format!("VIOLATION: {text}"));
        self.violation.get_or_insert(text);
    }

    fn run(&mut self) {
        self.start();
        for _ in 0..=self.random.below(STEPS_MAX) {
            self.step();
            if self.violation.is_some() {
                return;
            }
        }
        self.settle();
        if self.violation.is_none() {
            // What is said last must hold for the next daemon as well.
            self.die(Death::PowerCut);
            self.start();
        }
    }

    fn step(&mut self) {
        self.advance();
        match self.random.below(100) {
            0..29 => self.write_some(),
            29..58 => self.drive(),
            58..73 => self.step_guest(),
            73..87 => self.ask(),
            87..89 => self.reap(),
            89..92 => self.compact(),
            _ => {
                if self.random.percent(self.unrest) {
                    self.disturb();
                }
            }
        }
        self.restart_if_needed();
    }

    fn disturb(&mut self) {
        match self.random.below(16) {
            0..2 => self.die(Death::Kill),
            2 => self.die(Death::PowerCut),
            3..5 => self.plant(Failure::Gone, Times::Once),
            5 => self.plant(Failure::Io, Times::Once),
            6 => {
                let times = if self.random.percent(50) { Times::Once } else { Times::ForEver };
                self.plant(Failure::Full, times);
            }
            7 => {
                let space = self.random.below(2_000);
                self.tell(|| format!("disk: {space} bytes are left"));
                self.disk.set_space_left(Some(space));
            }
            8..11 => self.heal(),
            11 => self.set_clock(),
            12 => self.kill_guest(),
            _ => self.skip_time(),
        }
    }

    /// A daemon that cannot write is ended; without one, somebody starts another.
    fn restart_if_needed(&mut self) {
        if self.daemon.as_ref().is_some_and(Daemon::has_failed) && self.random.percent(30) {
            self.die(Death::Kill);
        }
        if self.daemon.is_none() && self.random.percent(40) {
            self.start();
        }
    }

    fn settle(&mut self) {
        self.tell(|| "calm".to_owned());
        self.calm = true;
        self.heal();
        for _ in 0..CALM_STEPS {
            if self.daemon.is_none() {
                self.start();
            } else if self.daemon.as_ref().is_some_and(Daemon::has_failed) {
                self.die(Death::Kill);
            }
            if self.violation.is_some() || self.is_settled() {
                return;
            }
            self.advance();
            match self.random.below(10) {
                0..3 => self.write_some(),
                3..7 => self.drive(),
                7..9 => self.step_guest(),
                _ => self.ask(),
            }
        }
        let left = self.daemon.as_ref().map(Daemon::what_is_left);
        self.violate(format!("something waits for ever: {}", left.unwrap_or_default()));
    }

    fn is_settled(&self) -> bool {
        let guests_busy = self.guests.alive().any(|workspace| self.guests.is_busy(workspace));
        !guests_busy && self.daemon.as_ref().is_some_and(Daemon::is_settled)
    }

    fn advance(&mut self) {
        let micros = self.random.below(400_000);
        self.pass(micros);
    }

    fn pass(&self, micros: u64) {
        let Reading { wall, since_boot_us } = CLOCK.get();
        CLOCK.set(Reading { wall: Timestamp(wall.0 + micros), since_boot_us: since_boot_us + micros });
    }

    fn skip_time(&mut self) {
        let seconds = self.random.below(120);
        self.tell(|| format!("clock: {seconds} s pass"));
        self.pass(seconds * 1_000_000);
    }

    fn set_clock(&mut self) {
        let Reading { wall, since_boot_us } = CLOCK.get();
        let micros = self.random.below(2 * 86_400) * 1_000_000;
        let wall = if self.random.percent(50) { wall.0 + micros } else { wall.0.saturating_sub(micros) };
        self.tell(|| format!("clock: set to {wall}"));
        CLOCK.set(Reading { wall: Timestamp(wall), since_boot_us });
    }

    fn plant(&mut self, failure: Failure, times: Times) {
        let kinds = Call::ALL.into_iter().map(Some).chain([None, None, None]);
        let call = if failure == Failure::Gone { None } else { self.random.pick(kinds).flatten() };
        let fault = Fault { call, after: self.random.below(25), failure, times };
        self.tell(|| format!("disk: {fault:?}"));
        self.disk.plant(fault);
    }

    fn heal(&mut self) {
        self.tell(|| "disk: well again".to_owned());
        self.disk.heal();
        self.disk.set_space_left(None);
    }

    fn set_honesty(&self) {
        if self.defect == Some(Defect::LyingSync) {
            self.disk.set_honesty(Honesty::Lying);
        }
    }

    fn step_guest(&mut self) {
        let busy: Vec<WorkspaceId> =
            self.guests.alive().filter(|workspace| self.guests.is_busy(*workspace)).collect();
        let Some(workspace) = self.random.pick(busy) else { return };
        let done = self.guests.step(workspace, &mut self.random);
        self.tell(|| format!("guest {workspace}: {done}"));
    }

    fn kill_guest(&mut self) {
        let Some(workspace) = self.random.pick(self.guests.alive().collect::<Vec<_>>()) else { return };
        self.tell(|| format!("guest {workspace}: dies"));
        self.guests.end(workspace);
    }

    /// Ends the daemon, or the host.
    pub(super) fn die(&mut self, death: Death) {
        self.tell(|| format!("daemon: {death:?}"));
        let disk = match death {
            Death::Kill => self.disk.after_kill(),
            Death::PowerCut => self.disk.after_power_cut(self.random.next()),
        };
        // The disk is another one now: what the log does while it is dropped goes to the old one.
        self.disk = disk;
        self.daemon = None;
        self.set_honesty();
        match death {
            Death::Kill => self.guests.break_syncs(&mut self.random),
            Death::PowerCut => {
                self.guests.end_all();
                self.host_boot += 1;
                let wall = CLOCK.get().wall;
                CLOCK.set(Reading { wall, since_boot_us: 5_000_000 });
            }
        }
    }
}

/// How a daemon ends when nobody has asked it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Death {
    /// Its process alone.
    Kill,
    /// With everything on the host.
    PowerCut,
}
