//! A home with a peer behind its socket: it speaks the daemon's protocol and does what the test tells it to.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread::{self, JoinHandle};

use pyro_api::{
    API_VERSION, ApiError, ClientMessage, Decoder, FrameKind, Home, Progress, Request, Response, RunProgress,
    ServerMessage, Stream, Welcome, encode_message, encode_output,
};
use tempfile::TempDir;

/// A home, and the listener on its socket.
pub(crate) struct World {
    dir: TempDir,
    home: Home,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let home = Home::at(&dir.path().join("home")).expect("the path is short");
        home.create().expect("the home can be made");
        Self { dir, home }
    }

    /// Serves connections one after the other, each with one of the scripts.
    pub(crate) fn serve<T: Send + 'static>(
        &self,
        scripts: impl IntoIterator<Item = Box<dyn FnOnce(&mut Peer) -> T + Send>>,
    ) -> JoinHandle<Vec<T>> {
        let listener = UnixListener::bind(self.home.socket()).expect("the home is empty");
        let scripts: Vec<_> = scripts.into_iter().collect();
        thread::spawn(move || {
            scripts.into_iter().map(|script| script(&mut Peer::accept(&listener))).collect()
        })
    }

    /// Returns a file of the directory that commands run in.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pyro"));
        command
            .args(arguments)
            .env("PYRO_HOME", self.home.root())
            .env_remove("PYRO_ENVIRONMENT_CACHE_DIR")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("pyro can be started")
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.spawn(arguments).wait_with_output().expect("its output can be read")
    }
}

/// One connection after its handshake.
pub(crate) struct Peer {
    stream: UnixStream,
    decoder: Decoder,
}

impl Peer {
    fn accept(listener: &UnixListener) -> Self {
        let (stream, _) = listener.accept().expect("the listener lives");
        let mut peer = Self { stream, decoder: Decoder::new() };
        let Some(ClientMessage::Hello(hello)) = peer.read() else { panic!("the first message is Hello") };
        assert!(hello.client.starts_with("pyro/"), "{}", hello.client);
        let pid = std::process::id();
        peer.send(&ServerMessage::Welcome(Welcome { api: API_VERSION, version: "2.5.0".to_owned(), pid }));
        peer
    }

    /// Returns the next message; `None` at the end of the connection.
    pub(crate) fn read(&mut self) -> Option<ClientMessage> {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("the client sends frames") {
                return Some(match frame.kind {
                    FrameKind::Input => ClientMessage::Input(frame.input().expect("a piece has an id")),
                    FrameKind::Json => frame.message().expect("the client sends messages"),
                    FrameKind::Output(_) => panic!("a client prints nothing to the daemon"),
                });
            }
            let mut chunk = [0; 4096];
            let len = self.stream.read(&mut chunk).unwrap_or(0);
            if len == 0 {
                return None;
            }
            self.decoder.push(&chunk[..len]);
        }
    }

    pub(crate) fn request(&mut self) -> Request {
        match self.read() {
            Some(ClientMessage::Request(request)) => request,
            other => panic!("a request is expected, not {other:?}"),
        }
    }

    pub(crate) fn send(&mut self, message: &ServerMessage) {
        let mut bytes = Vec::new();
        encode_message(message, &mut bytes).expect("the message is short");
        // A client that is gone is what some tests are about.
        let _gone = self.stream.write_all(&bytes);
    }

    pub(crate) fn reply(&mut self, reply: Result<Response, ApiError>) {
        self.send(&ServerMessage::Reply(Box::new(reply)));
    }

    pub(crate) fn print(&mut self, stream: Stream, bytes: &[u8]) {
        let mut frames = Vec::new();
        encode_output(stream, bytes, &mut frames);
        let _gone = self.stream.write_all(&frames);
    }

    pub(crate) fn phases(&mut self) {
        let vm_id = || "5f0c2a9be1d4".to_owned();
        for progress in [
            RunProgress::Create { environment: "debian:12".to_owned() },
            RunProgress::Start { vm_id: vm_id() },
            RunProgress::Execute { vm_id: vm_id() },
        ] {
            self.send(&ServerMessage::Progress(Progress::Run(progress)));
        }
    }
}
