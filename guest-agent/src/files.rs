//! The files of a directory, as the host asks for them and changes them.
//!
//! ```text
//! connection --> reader --> requests (bounded) --> workers --> replies, in any order
//! ```
//!
//! All of it happens in threads of the connection: the runtime, which serves all others, does not wait for a disk.
//! Every path is resolved below the root and through no link, by the kernel, whatever processes of the guest change
//! meanwhile.

mod attributes;
mod call;
pub(crate) mod cursor;
mod handles;
mod mask;
pub(crate) mod path;
mod root;
mod service;

use std::cell::Cell;
use std::rc::Rc;

use pyro_protocol::{Decoder, Failed, Files, GuestFrame, HostFrame, Stage};
use rustix::io::Errno;
use tokio::sync::oneshot;

use crate::connection::{Connection, ConnectionError};
use crate::launch;
use root::Root;
use service::Service;

/// Most connections of this kind at a time. The host has one; another may be that of a daemon which is gone.
const CONNECTIONS_MAX: usize = 4;

/// The connections on which files are asked for.
#[derive(Debug, Default)]
pub(crate) struct FileConnections {
    open: Rc<Cell<usize>>,
}

/// Counts a connection as long as it is held.
#[derive(Debug)]
struct Place(Rc<Cell<usize>>);

impl FileConnections {
    fn take_place(&self) -> Option<Place> {
        let open = self.open.get();
        if open >= CONNECTIONS_MAX {
            return None;
        }
        self.open.set(open + 1);
        Some(Place(Rc::clone(&self.open)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// Serves a connection that asked for the files of a directory.
pub(crate) async fn serve(
    connection: Connection,
    decoder: Decoder<HostFrame>,
    connections: &FileConnections,
    files: Files,
) -> Result<(), ConnectionError> {
    let Some(_place) = connections.take_place() else {
        let failed = refusal(Errno::AGAIN, format!("serve files: {CONNECTIONS_MAX} connections do"));
        return connection.send(&failed).await;
    };
    let root = match Root::open(&files) {
        Ok(root) => root,
        Err(error) => {
            let failed = refusal(error, format!("open {}", files.root.escape_default()));
            return connection.send(&failed).await;
        }
    };
    connection.send(&GuestFrame::Done).await?;
    let service = Service::new(connection.into_blocking()?, decoder, root);
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new().name("files".to_owned()).spawn(move || {
        // The agent is about to end when nobody waits.
        let _unheard = sender.send(service.run());
    })?;
    receiver.await.map_err(|_lost| std::io::Error::other("the thread of a connection ended early"))?
}

fn refusal(errno: Errno, message: String) -> GuestFrame {
    GuestFrame::Failed(Failed { stage: Stage::Cwd, ..launch::failed(Stage::Cwd, &errno.into(), message) })
}
