//! Watching for other programs that flush the firewall: ours is put back at once, and so is the way of our pods through theirs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::net::netlink::{self, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, bind, recv, socket_with};
use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use crate::firewall::Firewall;
use crate::passage::Passage;

/// The multicast group of nftables' changes, as a bit.
const GROUP_TABLES: u32 = 1 << 6;
/// NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_DELTABLE.
const TABLE_DELETED: u16 = 10 << 8 | 2;
/// The same with NFT_MSG_NEWCHAIN.
const CHAIN_MADE: u16 = 10 << 8 | 3;
/// The same with NFT_MSG_NEWRULE.
const RULE_MADE: u16 = 10 << 8 | 6;
/// The same with NFT_MSG_DELRULE.
const RULE_DELETED: u16 = 10 << 8 | 8;

/// Writes the table anew whenever another program deletes it, and looks after the passage when others change theirs. The task ends when the firewall is
/// gone.
pub(crate) fn tables(firewall: &Arc<Mutex<Firewall>>, passage: &Arc<Mutex<Passage>>) -> io::Result<AbortHandle> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::NETFILTER))?;
    bind(&fd, &SocketAddrNetlink::new(0, GROUP_TABLES))?;
    #[expect(deprecated, reason = "what replaces it is an unsafe function; an OwnedFd that nobody else holds is sound in either")]
    let socket = AsyncFd::new(fd)?;
    Ok(tokio::spawn(watch(socket, Arc::downgrade(firewall), Arc::downgrade(passage))).abort_handle())
}

async fn watch(socket: AsyncFd<OwnedFd>, firewall: Weak<Mutex<Firewall>>, passage: Weak<Mutex<Passage>>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(mut ready) = socket.readable().await else { return };
        let read = ready.try_io(|fd| recv(fd.get_ref().as_fd(), buffer.as_mut_slice(), RecvFlags::empty()).map_err(io::Error::from));
        let (Some(firewall), Some(passage)) = (firewall.upgrade(), passage.upgrade()) else { return };
        let mut firewall = firewall.lock().unwrap_or_else(PoisonError::into_inner);
        let mut passage = passage.lock().unwrap_or_else(PoisonError::into_inner);
        let (deleted, changed) = match read {
            Ok(Ok((read, _))) => {
                let messages = &buffer[..read];
                (deletes(messages, firewall.table(), firewall.port()), changes(messages, [firewall.port(), passage.port()]))
            }
            // Notices were lost, as after a large change of our own; one of the table's end may have been among them.
            Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => (!firewall.stands(), true),
            Ok(Err(_)) => return,
            Err(_would_block) => continue,
        };
        if deleted && let Err(error) = firewall.restore() {
            tracing::error!(%error, "another program flushed the firewall and our table could not be put back");
        }
        if changed {
            match passage.open() {
                Ok(hindrances) => hindrances.iter().for_each(|hindrance| tracing::warn!("{hindrance}")),
                Err(error) => tracing::warn!(%error, "another program changed its firewall, which could not be looked at"),
            }
        }
    }
}

/// Whether one of the messages is of a change of chains or rules that none of these sockets made.
fn changes(messages: &[u8], own: [u32; 2]) -> bool {
    each(messages).any(|(kind, by, _)| matches!(kind, CHAIN_MADE | RULE_MADE | RULE_DELETED) && !own.contains(&by))
}

/// Whether one of the messages says that somebody else deleted the table; `port` is the socket of our own deeds.
fn deletes(messages: &[u8], table: &str, port: u32) -> bool {
    const NAME: u16 = 1;
    let named = |body: &[u8]| netlink_bindings::utils::find_attr(body, NAME).is_some_and(|name| name.strip_suffix(&[0]) == Some(table.as_bytes()));
    each(messages).any(|(kind, by, body)| kind == TABLE_DELETED && by != port && named(body))
}

/// Type, author and attributes of each message.
fn each(mut messages: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    const HEADER: usize = 16;
    std::iter::from_fn(move || {
        let start = messages.get(..HEADER)?;
        let length = u32::from_ne_bytes([start[0], start[1], start[2], start[3]]) as usize;
        let kind = u16::from_ne_bytes([start[4], start[5]]);
        let body = messages.get(HEADER + 4..length.min(messages.len())).unwrap_or_default();
        let by = u32::from_ne_bytes([start[12], start[13], start[14], start[15]]);
        messages = messages.get(length.max(HEADER).next_multiple_of(4)..).unwrap_or_default();
        Some((kind, by, body))
    })
}
