//! What other servers of this user tell of those whom they did not let in.

use pyro_api::{AccessFault, AccessRefusedRequest, AccessRefusedResult, ApiError, ErrorCode};
use pyro_core::{AccessRefused, Command};

use super::{Failure, Session};

/// Longest address, in bytes.
const PEER_MAX: usize = 100;

/// Longest claim, in bytes.
const CLAIMED_MAX: usize = 300;

impl Session {
    pub(super) async fn access_refused(
        &self,
        request: AccessRefusedRequest,
    ) -> Result<AccessRefusedResult, Failure> {
        if request.peer.len() > PEER_MAX || request.claimed.len() > CLAIMED_MAX {
            let what = format_args!("an address has at most {PEER_MAX} bytes, a claim {CLAIMED_MAX}");
            return Err(ApiError::new(ErrorCode::InvalidArgument, what).into());
        }
        let reason = match request.reason {
            AccessFault::Host => pyro_core::AccessFault::Host,
            AccessFault::Origin => pyro_core::AccessFault::Origin,
            AccessFault::Token => pyro_core::AccessFault::Token,
        };
        let AccessRefusedRequest { peer, peer_uid, claimed, left_out, .. } = request;
        let fact = AccessRefused { reason, peer, peer_uid, claimed, left_out };
        self.context.engine.submit(Command::RecordAccessRefused(fact), self.origin(None)).await?;
        Ok(AccessRefusedResult { recorded: true })
    }
}
