//! `pyro workspace sync push`

use std::io;
use std::process::ExitCode;

use nix::sys::signal::Signal;
use pyro_api::{
    CancelToken, Incoming, Progress, SyncResult, WorkspaceSyncPushRequest, json, new_request_id,
    resolve_host_path,
};

use crate::exit::{Failure, Format, error_line, error_text};
use crate::interrupts::Interrupts;
use crate::progress_view::ProgressView;
use crate::sanitize;
use crate::session::Session;
use crate::sink::Sink;

pub(super) fn execute(mut request: WorkspaceSyncPushRequest, format: Format) -> Result<ExitCode, Failure> {
    request.source_path = resolve_host_path(&request.source_path)?;
    // With it the next daemon answers for what the last one did.
    request.request_id.get_or_insert_with(new_request_id);
    let token = CancelToken::new();
    let interrupts = Interrupts::canceling(&token)?;
    let mut view = PushView::new(format)?;
    let mut shown = Ok(());
    let pushed = Session::starting()?.link().call(&request, &token, |incoming| {
        if let (Incoming::Progress(progress), Ok(())) = (incoming, &shown) {
            shown = view.show(&progress);
            if shown.is_err() {
                // Nobody is there any more who would want to know of more.
                token.cancel();
            }
        }
    });
    shown?;
    view.clear();
    match (interrupts.first(), request.watch, pushed) {
        // That is how a watch ends.
        (Some(Signal::SIGINT), true, Ok(_)) => Ok(ExitCode::SUCCESS),
        // What has happened has happened, however late somebody did not want it any more.
        (_, false, Ok(result)) => view.print(&result, json::document).map(|()| ExitCode::SUCCESS),
        (Some(signal), _, _) => Err(Failure::Interrupted(signal)),
        (None, true, Ok(_)) => Ok(ExitCode::SUCCESS),
        (None, _, Err(error)) => Err(error.into()),
    }
}

/// Pushes as people or programs see them.
struct PushView {
    format: Format,
    stdout: Sink,
    stderr: Sink,
    progress: ProgressView,
}

impl PushView {
    fn new(format: Format) -> io::Result<Self> {
        let (stdout, stderr) = (Sink::stdout()?, Sink::stderr()?);
        Ok(Self { format, stdout, stderr, progress: ProgressView::new()? })
    }

    fn show(&mut self, progress: &Progress) -> Result<(), Failure> {
        match (progress, self.format) {
            (Progress::Synced(result), _) => {
                self.clear();
                self.print(result, json::line)?;
            }
            (Progress::SyncFailed(error), Format::Text) => {
                self.clear();
                self.stderr.own(&error_text(error))?;
            }
            (Progress::SyncFailed(error), Format::Json) => self.stdout.own(&error_line(error))?,
            (_, Format::Text) => self.progress.show(progress)?,
            (_, Format::Json) => {}
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.progress.clear();
    }

    fn print(&mut self, result: &SyncResult, json: fn(&SyncResult) -> String) -> Result<(), Failure> {
        let text = match self.format {
            Format::Text => result_line(result),
            Format::Json => json(result),
        };
        Ok(self.stdout.own(&text)?)
    }
}

fn result_line(result: &SyncResult) -> String {
    let sync = &result.workspace_sync;
    format!(
        "[workspace-sync] workspace_id={} mode={} source={} destination={} entry_count={} bytes_written={} \
         execution_mode={}\n",
        sanitize::line(&result.workspace_id),
        sanitize::line(&sync.mode),
        sanitize::line(&sync.source_path),
        sanitize::line(&sync.destination),
        sync.entry_count,
        sync.bytes_written,
        sanitize::line(&result.execution_mode)
    )
}
