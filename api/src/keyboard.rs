//! What a client says to a shell while it is attached: keys, sizes, and that it leaves.
//!
//! A thread of its own sends it, so nobody who types waits for a daemon that does not take it: a job that does not read
//! cannot keep a person from leaving.
//!
//! ```text
//! typed --cut into pieces with ids--> sent --acknowledged--> (forgotten)
//!                                      |
//!                     a new connection gets all of these again
//! ```

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use pyro_core::RequestId;

use crate::client::{Sender, TransportError};
use crate::frame::Input;
use crate::request::WindowSize;
use crate::request_id::new_request_id;

/// Most input that waits to be sent or acknowledged, in bytes: much more than a person types ahead or pastes.
const TYPED_MAX: usize = 1024 * 1024;

/// Most input that is sent as one, in bytes. A frame that did not go out whole was not read.
const PART_MAX: usize = 16 * 1024;

/// A handle on the keyboard of one [`Attachment`](crate::Attachment), for other threads than the one that shows output.
#[derive(Clone, Debug)]
pub struct Keyboard {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Can be read when the client leaves.
    left: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    /// Keys that do not belong to a piece yet.
    typed: Vec<u8>,
    /// Pieces that the daemon has not acknowledged, in their order.
    pieces: VecDeque<Input>,
    /// How many of them went out on this connection, the one that is just being written included.
    sent: usize,
    /// Bytes of all pieces.
    pieces_len: usize,
    size: Option<WindowSize>,
    size_sent: bool,
    leaving: bool,
    leave_sent: bool,
    over: bool,
    /// Counts connections.
    connections: u64,
    sender: Option<Sender>,
}

impl Keyboard {
    /// Returns a keyboard that is not connected to anything.
    ///
    /// # Errors
    ///
    /// When the process can have no more open files.
    pub fn new() -> io::Result<Self> {
        let left = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (state, changed) = (Mutex::default(), Condvar::new());
        Ok(Self { shared: Arc::new(Shared { state, changed, left }) })
    }

    /// Types if there is room for all of it, and tells whether there was. Does not wait.
    #[must_use]
    pub fn offer(&self, keys: &[u8]) -> bool {
        let mut state = self.lock();
        let taken = !state.is_closed() && state.held() + keys.len() <= TYPED_MAX;
        if taken {
            state.typed.extend_from_slice(keys);
            self.shared.changed.notify_all();
        }
        taken
    }

    /// Types as soon as there is room; `false` when the shell has ended or the client leaves before.
    #[must_use]
    pub fn type_in(&self, keys: &[u8]) -> bool {
        keys.chunks(PART_MAX).all(|part| {
            let is_full = |state: &mut State| !state.is_closed() && state.held() + part.len() > TYPED_MAX;
            drop(
                self.shared.changed.wait_while(self.lock(), is_full).unwrap_or_else(PoisonError::into_inner),
            );
            self.offer(part)
        })
    }

    /// Tells the size of the terminal; of several that are not sent yet, the last one counts.
    pub fn resize(&self, size: WindowSize) {
        let mut state = self.lock();
        state.size_sent = state.size_sent && state.size == Some(size);
        state.size = Some(size);
        self.shared.changed.notify_all();
    }

    /// Leaves the shell, which goes on. What was typed before is sent first if the shell takes it.
    pub fn leave(&self) {
        self.lock().leaving = true;
        self.shared.changed.notify_all();
        // The only error is that it can be read already.
        let _woken = rustix::io::write(&self.shared.left, &[1; 8]);
    }

    /// Returns whether the client leaves.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.lock().leaving
    }

    /// Returns what can be read when the client leaves.
    pub(crate) fn left(&self) -> BorrowedFd<'_> {
        self.shared.left.as_fd()
    }

    /// Returns the size that a request is to tell, which need not be sent after it.
    pub(crate) fn tell_size(&self) -> Option<WindowSize> {
        let mut state = self.lock();
        state.size_sent = true;
        state.size
    }

    /// Sends to a new connection from now on, what was not acknowledged before all else.
    pub(crate) fn connect(&self, sender: Sender) {
        let mut state = self.lock();
        state.connections += 1;
        state.sender = Some(sender);
        state.sent = 0;
        state.leave_sent = false;
        self.shared.changed.notify_all();
    }

    /// Forgets what the daemon has recorded: everything up to the piece with this id.
    pub(crate) fn acknowledge(&self, request_id: RequestId) {
        let mut state = self.lock();
        // An id of none of them is of one that an earlier acknowledgement spoke of.
        let Some(last) = state.pieces.iter().position(|piece| piece.request_id == request_id) else { return };
        let recorded: usize = state.pieces.drain(..=last).map(|piece| piece.data.len()).sum();
        state.pieces_len -= recorded;
        state.sent = state.sent.saturating_sub(last + 1);
        self.shared.changed.notify_all();
    }

    /// Takes nothing more and ends the thread that sends.
    pub(crate) fn close(&self) {
        self.lock().over = true;
        self.shared.changed.notify_all();
    }

    /// Sends what there is, until the keyboard is closed.
    pub(crate) fn send_all(&self) {
        while let Some((connection, sender, piece)) = self.next_piece() {
            let sent = piece.send(&sender);
            let mut state = self.lock();
            // The thread that reads notices as well and connects again.
            if sent.is_err() && state.connections == connection {
                state.sender = None;
            }
        }
    }

    fn next_piece(&self) -> Option<(u64, Sender, Piece)> {
        let has_nothing = |state: &mut State| !state.over && !state.can_send();
        let mut state =
            self.shared.changed.wait_while(self.lock(), has_nothing).unwrap_or_else(PoisonError::into_inner);
        let sender = state.sender.clone().filter(|_| !state.over)?;
        let piece = match state.size.filter(|_| !state.size_sent) {
            Some(size) => {
                state.size_sent = true;
                Piece::Size(size)
            }
            None => match state.next_keys() {
                Some(input) => Piece::Keys(input),
                None => {
                    state.leave_sent = true;
                    Piece::Leave
                }
            },
        };
        Some((state.connections, sender, piece))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn is_closed(&self) -> bool {
        self.over || self.leaving
    }

    const fn held(&self) -> usize {
        self.typed.len() + self.pieces_len
    }

    fn can_send(&self) -> bool {
        let has_size = self.size.is_some() && !self.size_sent;
        let has_keys = self.sent < self.pieces.len() || !self.typed.is_empty();
        self.sender.is_some() && (has_size || has_keys || self.leaving && !self.leave_sent)
    }

    /// Takes note that the next keys go out; an acknowledgement of them may come before the write has returned.
    fn next_keys(&mut self) -> Option<Input> {
        if self.sent == self.pieces.len() {
            if self.typed.is_empty() {
                return None;
            }
            let rest = self.typed.split_off(self.typed.len().min(PART_MAX));
            let data = std::mem::replace(&mut self.typed, rest);
            self.pieces_len += data.len();
            self.pieces.push_back(Input { request_id: new_request_id(), data });
        }
        self.sent += 1;
        self.pieces.get(self.sent - 1).cloned()
    }
}

/// What is sent at once.
#[derive(Debug)]
enum Piece {
    Keys(Input),
    Size(WindowSize),
    Leave,
}

impl Piece {
    fn send(&self, sender: &Sender) -> Result<(), TransportError> {
        match self {
            Self::Keys(keys) => sender.input(keys),
            Self::Size(size) => sender.resize(*size),
            Self::Leave => sender.cancel(),
        }
    }
}
