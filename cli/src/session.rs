//! The way from a command to the daemon.

use std::io;
use std::path::PathBuf;

use pyro_api::{
    ApiError, CancelToken, Client, ClientInfo, ErrorCode, Face, Home, Incoming, Link, Operation, Start,
};

use crate::exit::Failure;

/// Everything that is needed to connect.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) home: Home,
    pub(crate) info: ClientInfo,
    pub(crate) start: Start,
}

impl Session {
    /// Finds the home; the daemon is started when the first request needs it.
    pub(crate) fn starting() -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|error: io::Error| {
            ApiError::new(
                ErrorCode::DaemonUnavailable,
                format_args!("failed to find the program pyro: {error}"),
            )
        })?;
        Self::new(Start::IfNeeded { program })
    }

    /// Finds the home; requests fail when no daemon runs.
    pub(crate) fn looking() -> Result<Self, Failure> {
        Self::new(Start::Never)
    }

    fn new(start: Start) -> Result<Self, Failure> {
        let home = Home::from_environment().map_err(ApiError::from)?;
        let client = concat!("pyro/", env!("CARGO_PKG_VERSION")).to_owned();
        Ok(Self { home, info: ClientInfo { client, face: Face::Cli }, start })
    }

    /// Returns the home and the program for a server of tools, which starts the daemon when it needs it.
    pub(crate) fn into_server(self) -> Result<(Home, PathBuf), Failure> {
        match self.start {
            Start::IfNeeded { program } => Ok((self.home, program)),
            Start::Never => Err(ApiError::new(ErrorCode::Internal, "a server without a program").into()),
        }
    }

    pub(crate) fn connect(&self) -> Result<Client, Failure> {
        Ok(Client::connect(&self.home, &self.info, &self.start)?)
    }

    /// Returns the way to this daemon and to those that come after it.
    pub(crate) fn link(&self) -> Link {
        Link::new(&self.home, &self.info, &self.start)
    }

    /// Asks for an operation of which only the result counts.
    pub(crate) fn call<O: Operation>(&self, operation: O) -> Result<O::Response, Failure> {
        self.call_observing(operation, drop)
    }

    /// Asks for an operation. What comes before its result goes to `observe`.
    ///
    /// When the daemon goes before it has answered, the next one is asked again, under the same request id.
    pub(crate) fn call_observing<O: Operation>(
        &self,
        mut operation: O,
        observe: impl FnMut(Incoming),
    ) -> Result<O::Response, Failure> {
        operation.identify();
        Ok(self.link().call(&operation, &CancelToken::new(), observe)?)
    }
}
