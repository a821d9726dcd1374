//! What comes before the result of an operation, as people see it: an installation, and files on their way.

use std::io;

use pyro_api::{Incoming, Operation, Progress};

use crate::exit::{Failure, Format};
use crate::pull_view::PullView;
use crate::session::Session;
use crate::sink::Sink;
use crate::sync_view::SyncView;

/// Asks for an operation and shows how far it is, to people only.
pub(crate) fn call_with_progress<O: Operation>(operation: O, format: Format) -> Result<O::Response, Failure> {
    let session = Session::starting()?;
    if format == Format::Json {
        return session.call(operation);
    }
    let mut view = ProgressView::new()?;
    let mut shown = Ok(());
    let response = session.call_observing(operation, |incoming| {
        if let Incoming::Progress(progress) = incoming
            && shown.is_ok()
        {
            shown = view.show(&progress);
        }
    })?;
    shown?;
    view.end()?;
    Ok(response)
}

/// Shows what an operation does before it has a result.
#[derive(Debug)]
pub(crate) struct ProgressView {
    stderr: Sink,
    pull: Option<PullView>,
    sync: SyncView,
}

impl ProgressView {
    pub(crate) fn new() -> io::Result<Self> {
        let stderr = Sink::stderr()?;
        let sync = SyncView::new(&stderr);
        Ok(Self { stderr, pull: None, sync })
    }

    pub(crate) fn show(&mut self, progress: &Progress) -> io::Result<()> {
        match progress {
            Progress::Pull(progress) => {
                let mut pull = match self.pull.take() {
                    Some(pull) => pull,
                    None => PullView::new(&progress.environment, &mut self.stderr)?,
                };
                pull.update(progress, &mut self.stderr)?;
                self.pull = Some(pull);
            }
            Progress::Sync(progress) => {
                self.end_pull()?;
                self.sync.update(progress);
            }
            // Those who ask for these show them themselves.
            Progress::Run(_)
            | Progress::Record(_)
            | Progress::Synced(_)
            | Progress::SyncFailed(_)
            | Progress::Joined { .. }
            | Progress::Gap { .. }
            | Progress::CaughtUp { .. }
            | Progress::Typed { .. } => {}
        }
        Ok(())
    }

    /// Makes room for text, and for the progress of what comes next.
    pub(crate) fn clear(&mut self) {
        self.sync.clear();
    }

    /// Ends with success.
    pub(crate) fn end(mut self) -> io::Result<()> {
        self.clear();
        self.end_pull()
    }

    fn end_pull(&mut self) -> io::Result<()> {
        match self.pull.take() {
            Some(pull) => pull.ready(&mut self.stderr),
            None => Ok(()),
        }
    }
}
