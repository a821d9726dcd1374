//! What the output of a shell comes to on a screen and as a recording. It is made when somebody asks, and goes on from
//! what was made before.

use std::sync::{Arc, Mutex, PoisonError};

use pyro_core::{ShellId, TerminalSize, Timestamp, WorkspaceId};
use pyro_store::outputs::{OutputReader, Outputs, StreamId};

use crate::cast::{Cast, Typed};
use crate::screen::{Emulator, Style};
use crate::view::ViewError;

/// A shell whose output is drawn, with what was made of it.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    workspace: WorkspaceId,
    shell: ShellId,
    /// The sizes that its terminal had; the first is the one that it began with.
    sizes: Vec<(Timestamp, TerminalSize)>,
    made: Arc<Mutex<Made>>,
}

/// What was made of the output of a shell. It is locked while more is made, and nobody else waits for that.
#[derive(Debug, Default)]
pub(crate) struct Made {
    emulator: Option<Emulator>,
    cast: Option<Recorded>,
}

/// A recording, and what it was made of.
#[derive(Debug)]
struct Recorded {
    /// Bytes of output, sizes of the terminal, and events of what was typed.
    made_of: (u64, usize, usize),
    cast: Arc<Cast>,
}

impl Drawn {
    pub(crate) fn new(
        workspace: WorkspaceId,
        shell: ShellId,
        sizes: &[(Timestamp, TerminalSize)],
        made: Arc<Mutex<Made>>,
    ) -> Self {
        Self { workspace, shell, sizes: sizes.to_vec(), made }
    }

    fn output(&self, outputs: &Outputs) -> Result<(OutputReader, u64), ViewError> {
        let output = outputs.read(self.workspace, StreamId::Shell(self.shell))?;
        let len = output.len_bytes()?;
        Ok((output, len))
    }

    /// Returns what the terminal shows.
    pub(crate) fn screen(&self, outputs: &Outputs, style: Style) -> Result<String, ViewError> {
        let (output, len) = self.output(outputs)?;
        let (_, first) = self.sizes.first().ok_or(ViewError::Gone)?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        // One that fails is thrown away: it is not known any more what it shows.
        let mut emulator = match made.emulator.take() {
            Some(emulator) => emulator,
            None => Emulator::new(*first)?,
        };
        emulator.catch_up(&output, len, &output.times()?, &self.sizes)?;
        Ok(made.emulator.insert(emulator).text(style))
    }

    /// Returns the recording.
    pub(crate) fn cast(&self, outputs: &Outputs, typed: Typed) -> Result<Arc<Cast>, ViewError> {
        let (output, len) = self.output(outputs)?;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let made_of = (len, self.sizes.len(), typed.events.len());
        if let Some(known) = made.cast.as_ref().filter(|known| known.made_of == made_of) {
            return Ok(Arc::clone(&known.cast));
        }
        let cast = Arc::new(Cast::new(output, len, &self.sizes, typed)?);
        made.cast = Some(Recorded { made_of, cast: Arc::clone(&cast) });
        Ok(cast)
    }
}
