//! A command on the two output streams, live.

use pyro_api::{Progress, RunProgress, Stream};

use crate::exit::Failure;
use crate::follow::{Shown, gap_line};
use crate::pull_view::PullView;
use crate::sanitize;
use crate::sink::Sink;

/// A command as people see it.
#[derive(Debug)]
pub(crate) struct LiveView {
    stdout: Sink,
    stderr: Sink,
    pull: Option<PullView>,
}

impl LiveView {
    /// `raw` passes on to a terminal whatever the guest prints.
    pub(crate) fn new(raw: bool) -> Result<Self, Failure> {
        let mut view = Self { stdout: Sink::stdout()?, stderr: Sink::stderr()?, pull: None };
        if raw {
            view.stdout.raw();
            view.stderr.raw();
        }
        Ok(view)
    }

    pub(crate) fn show(&mut self, shown: Shown) -> Result<(), Failure> {
        match shown {
            Shown::Output(Stream::Stdout, bytes) => self.stdout.guest(&bytes)?,
            Shown::Output(Stream::Stderr, bytes) => self.stderr.guest(&bytes)?,
            Shown::Gap(stream, len_bytes) => {
                self.stderr.own_below(&mut self.stdout, &gap_line(stream, len_bytes))?
            }
            Shown::Progress(Progress::Pull(progress)) => {
                let mut pull = match self.pull.take() {
                    Some(pull) => pull,
                    None => PullView::new(&progress.environment, &mut self.stderr)?,
                };
                pull.update(&progress, &mut self.stderr)?;
                self.pull = Some(pull);
            }
            // Only other requests lead to them.
            Shown::Progress(
                Progress::Record(_)
                | Progress::Sync(_)
                | Progress::Synced(_)
                | Progress::SyncFailed(_)
                | Progress::Joined { .. }
                | Progress::Gap { .. }
                | Progress::CaughtUp { .. }
                | Progress::Typed { .. },
            ) => {}
            Shown::Progress(Progress::Run(progress)) => {
                if let Some(pull) = self.pull.take() {
                    pull.ready(&mut self.stderr)?;
                }
                self.stderr.own(&phase_line(&progress))?;
            }
        }
        Ok(())
    }

    /// Ends the output and prints a line of our own.
    pub(crate) fn end(&mut self, summary: &str) -> Result<(), Failure> {
        self.stdout.end_guest()?;
        self.stderr.end_guest()?;
        // Into a file or pipe, only the guest's own bytes go.
        if self.stderr.is_terminal() && (self.stdout.has_open_line() || self.stderr.has_open_line()) {
            self.stderr.own("\n")?;
        }
        Ok(self.stderr.own(summary)?)
    }
}

fn phase_line(progress: &RunProgress) -> String {
    match progress {
        RunProgress::Create { environment } => {
            format!("[run] phase=create environment={}\n", sanitize::line(environment))
        }
        RunProgress::Start { vm_id } => format!("[run] phase=start vm_id={}\n", sanitize::line(vm_id)),
        RunProgress::Execute { vm_id } => format!("[run] phase=execute vm_id={}\n", sanitize::line(vm_id)),
    }
}
