//! Tells the daemon of those who were not let in, so that it is on record.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use pyro_api::AccessRefusedRequest;
use tokio::sync::mpsc;

use super::gate::Fault;

/// Most refusals that are told within [`WINDOW`]: a stranger is not to fill the log.
const TOLD_MAX: u32 = 10;

const WINDOW: Duration = Duration::from_secs(60);

/// Refusals that wait for the daemon.
const WAITING_MAX: usize = 16;

/// Longest claim that is told, in bytes.
const CLAIMED_MAX: usize = 200;

/// Takes note of refusals.
#[derive(Debug)]
pub(crate) struct Refusals {
    recorder: mpsc::Sender<AccessRefusedRequest>,
    count: Mutex<Count>,
}

#[derive(Debug)]
struct Count {
    since: Instant,
    told: u32,
    left_out: u64,
}

impl Refusals {
    /// Returns it with what it tells, in its order.
    pub(crate) fn new() -> (Self, mpsc::Receiver<AccessRefusedRequest>) {
        let (recorder, told) = mpsc::channel(WAITING_MAX);
        let count = Mutex::new(Count { since: Instant::now(), told: 0, left_out: 0 });
        (Self { recorder, count }, told)
    }

    /// Has a refusal recorded, unless there are too many.
    pub(crate) fn note(&self, fault: Fault, peer: SocketAddr, server: SocketAddr) {
        let Some(left_out) = self.left_out(Instant::now()) else { return };
        let claimed = fault.claimed.chars().filter(|character| !character.is_control());
        let claimed = claimed.scan(0, |len, character| {
            *len += character.len_utf8();
            (*len <= CLAIMED_MAX).then_some(character)
        });
        let request = AccessRefusedRequest {
            reason: fault.reason,
            peer: peer.to_string(),
            peer_uid: user_of(peer, server),
            claimed: claimed.collect(),
            left_out,
        };
        if self.recorder.try_send(request).is_err() {
            self.count.lock().unwrap_or_else(std::sync::PoisonError::into_inner).left_out += left_out + 1;
        }
    }

    /// Returns how many were left out before one that is told now; `None` when it is left out as well.
    fn left_out(&self, now: Instant) -> Option<u64> {
        let mut count = self.count.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if now.saturating_duration_since(count.since) >= WINDOW {
            (count.since, count.told) = (now, 0);
        }
        if count.told == TOLD_MAX {
            count.left_out += 1;
            return None;
        }
        count.told += 1;
        Some(std::mem::take(&mut count.left_out))
    }
}

/// Returns the user of a connection from this host, as the kernel's table of connections has it.
fn user_of(peer: SocketAddr, server: SocketAddr) -> Option<u32> {
    let table = match peer.ip() {
        IpAddr::V4(_) => "/proc/self/net/tcp",
        IpAddr::V6(_) => "/proc/self/net/tcp6",
    };
    user_in(&fs::read_to_string(table).ok()?, peer, server)
}

fn user_in(table: &str, peer: SocketAddr, server: SocketAddr) -> Option<u32> {
    let (local, remote) = (kernels(peer), kernels(server));
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        if words.next()? != local || words.next()? != remote {
            return None;
        }
        // State, queues, timer and retransmissions come before the user.
        words.nth(4)?.parse().ok()
    })
}

/// Returns an address as the kernel writes it: words of 32 bits in the machine's order.
#[expect(clippy::host_endian_bytes, reason = "the kernel prints words as the machine has them")]
fn kernels(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets
        .chunks_exact(4)
        .map(|word| format!("{:08X}", u32::from_ne_bytes([word[0], word[1], word[2], word[3]])));
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use pyro_api::AccessFault;

    use super::*;

    /// Catches a stranger who fills the log, and one of whom nothing is left.
    #[test]
    fn many_refusals_are_counted() {
        let (refusals, mut told) = Refusals::new();
        let at = "127.0.0.1:1".parse().unwrap();
        let fault = Fault { reason: AccessFault::Host, claimed: format!("a\nb{}", "é".repeat(300)) };
        for _ in 0..100 {
            refusals.note(fault.clone(), at, at);
        }
        let all: Vec<_> = std::iter::from_fn(|| told.try_recv().ok()).collect();
        assert_eq!(all.len(), 10);
        assert!(
            all.iter()
                .all(|one| one.left_out == 0 && one.claimed.len() == 200 && one.claimed.starts_with("abé"))
        );
        let later = Instant::now() + WINDOW;
        assert_eq!((refusals.left_out(later), refusals.left_out(later)), (Some(90), Some(0)));
    }

    /// Catches an address that is not written as the kernel does.
    #[test]
    fn the_user_of_a_connection() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (peer, server) = (client.local_addr().unwrap(), listener.local_addr().unwrap());
            assert_eq!(user_of(peer, server), Some(rustix::process::getuid().as_raw()), "{address}");
            assert_eq!(user_of(server, server), None);
        }
        let table = "sl local rem st tx tr retr uid\n0: 0100007F:1F90 0100007F:0050 01 0:0 0:0 0 1000 0 1\n";
        let (peer, server) = ("127.0.0.1:8080".parse().unwrap(), "127.0.0.1:80".parse().unwrap());
        if cfg!(target_endian = "little") {
            assert_eq!((user_in(table, peer, server), user_in(table, server, peer)), (Some(1000), None));
        }
    }
}
