//! What is written becomes wishes, one after the other.

use std::sync::Arc;

use fuser::Errno;
use pyro_core::ExecNumber;

use crate::ctl;
use crate::host::{Refusal, RefusalKind, Wish, Writer};
use crate::node::{Node, ShellFile, WorkspaceFile};
use crate::view::View;

/// Takes how much of what was written was carried out, and the number of the command that it ran last.
type Done = Box<dyn FnOnce(Result<(usize, Option<ExecNumber>), Errno>) + Send>;

/// One write.
pub(crate) struct Writing {
    pub(crate) view: Arc<View>,
    pub(crate) node: Node,
    pub(crate) writer: Writer,
    pub(crate) data: Vec<u8>,
    pub(crate) done: Done,
}

impl Writing {
    /// Carries it out. `done` is called when that has happened, possibly on another thread.
    pub(crate) fn begin(self) {
        Steps { writing: self, carried_out: 0, number: None }.go_on();
    }

    /// Returns the wish at the beginning of some bytes, and how many they are; `None` for a line without words.
    fn wish(&self, bytes: &[u8]) -> (usize, Option<Result<Wish, Refusal>>) {
        if let Node::InShell(workspace, shell, ShellFile::Input) = self.node {
            return (bytes.len(), Some(Ok(Wish::Type { workspace, shell, data: bytes.to_vec() })));
        }
        let len = bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| end + 1);
        let Ok(line) = std::str::from_utf8(&bytes[..len]) else {
            let message = "a line must be UTF-8".to_owned();
            return (len, Some(Err(Refusal { kind: RefusalKind::Invalid, message })));
        };
        if line.trim().is_empty() {
            return (len, None);
        }
        let wish = match &self.node {
            Node::InWorkspace(id, WorkspaceFile::Ctl) => ctl::workspace(*id, line),
            Node::InWorkspace(id, WorkspaceFile::Clone) => ctl::exec(*id, line),
            Node::InShell(id, shell, ShellFile::Ctl) => ctl::shell(*id, *shell, line),
            _ => {
                let message = "nothing can be written here".to_owned();
                Err(Refusal { kind: RefusalKind::Invalid, message })
            }
        };
        (len, Some(wish))
    }
}

/// A write that is under way.
struct Steps {
    writing: Writing,
    carried_out: usize,
    number: Option<ExecNumber>,
}

impl Steps {
    fn go_on(mut self) {
        while let Some(rest) = self.writing.data.get(self.carried_out..).filter(|rest| !rest.is_empty()) {
            let (len, wish) = self.writing.wish(rest);
            match wish {
                None => self.carried_out += len,
                Some(Err(refusal)) => return self.refused(&refusal),
                Some(Ok(wish)) => return self.perform(wish, len),
            }
        }
        (self.writing.done)(Ok((self.carried_out, self.number)));
    }

    fn perform(mut self, wish: Wish, len: usize) {
        let (host, writer) = (Arc::clone(self.writing.view.host()), self.writing.writer);
        let done = move |performed| match performed {
            Ok(number) => {
                self.carried_out += len;
                self.number = number;
                self.go_on();
            }
            Err(refusal) => self.refused(&refusal),
        };
        host.perform(wish, writer, Box::new(done));
    }

    /// What was carried out before the refusal is told first: whoever writes the rest again is told of the refusal.
    fn refused(self, refusal: &Refusal) {
        if self.carried_out > 0 {
            return (self.writing.done)(Ok((self.carried_out, self.number)));
        }
        if let Some(workspace) = self.writing.node.workspace() {
            self.writing.view.refused(workspace, &refusal.message);
        }
        (self.writing.done)(Err(refusal.kind.into()));
    }
}
