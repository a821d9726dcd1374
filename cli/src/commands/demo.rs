//! `pyro demo`

use std::process::ExitCode;

use pyro_api::RunRequest;

use super::run::run_to_json;
use crate::arguments::DemoArgs;
use crate::exit::Failure;

const ENVIRONMENT: &str = "debian:12";
const COMMAND: &str = "git --version";

/// The shell itself is the client: the environment has no other program for HTTP.
const NETWORK_COMMAND: &str = "bash -c 'exec 3<>/dev/tcp/deb.debian.org/80 && \
    printf \"HEAD / HTTP/1.0\\r\\nHost: deb.debian.org\\r\\n\\r\\n\" >&3 && head -n 1 <&3'";

pub(crate) fn execute(args: DemoArgs) -> Result<ExitCode, Failure> {
    let command = if args.network { NETWORK_COMMAND } else { COMMAND };
    let mut request = RunRequest::new(ENVIRONMENT, command);
    request.network = args.network;
    // The result shows how the command ended; the demonstration has succeeded when there is one.
    run_to_json(request).map(|_| ExitCode::SUCCESS)
}
