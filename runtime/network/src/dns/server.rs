//! The name server: hickory's sockets, our answers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Edns, HeaderCounts, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::{A, CNAME, PTR, SOA, SRV};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

use super::upstream::Upstreams;
use super::zone::{Answer, Data, Question, Zone};
use crate::NetworkError;
use crate::address::Cidr;

/// Names change as fast as pods do.
const TTL_SECONDS: u32 = 5;
const TCP_TIMEOUT: Duration = Duration::from_secs(10);
const MOST_ANSWER_BYTES: u16 = 1232;
/// Aliases followed inside the zone before giving up.
const MOST_ALIASES: usize = 8;

/// The server and the zone it answers from.
pub(crate) struct NameServer {
    zone: Arc<RwLock<Arc<Zone>>>,
    server: tokio::sync::Mutex<Server<Answers>>,
}

impl NameServer {
    /// Binds UDP and TCP and answers from now on.
    pub(crate) async fn start(address: SocketAddr, zone: Zone, upstreams: Upstreams, pods: Cidr) -> Result<Self, NetworkError> {
        let failed = |source| NetworkError::BindNames { address, source };
        let zone = Arc::new(RwLock::new(Arc::new(zone)));
        let udp = UdpSocket::bind(address).await.map_err(failed)?;
        let tcp = TcpListener::bind(address).await.map_err(failed)?;
        let answers = Answers { zone: Arc::clone(&zone), upstreams, pods, turn: AtomicUsize::new(0) };
        let mut server = Server::new(answers);
        server.register_socket(udp);
        server.register_listener(tcp, TCP_TIMEOUT, 16);
        Ok(NameServer { zone, server: tokio::sync::Mutex::new(server) })
    }

    /// Answers from another zone from the next question on.
    pub(crate) fn set_zone(&self, zone: Zone) {
        *self.zone.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(zone);
    }

    /// Stops and waits until the sockets are closed.
    pub(crate) async fn stop(&self) {
        let stopped = self.server.lock().await.shutdown_gracefully().await;
        if let Err(error) = stopped {
            tracing::debug!(%error, "the name server ended with an error");
        }
    }
}

struct Answers {
    zone: Arc<RwLock<Arc<Zone>>>,
    upstreams: Upstreams,
    pods: Cidr,
    turn: AtomicUsize,
}

/// A response before it is written.
#[derive(Default)]
struct Reply {
    code: Option<ResponseCode>,
    authoritative: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
    truncated: bool,
}

#[async_trait::async_trait]
impl RequestHandler for Answers {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut handle: R) -> ResponseInfo {
        let reply = self.reply(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = reply.authoritative;
        metadata.recursion_available = true;
        metadata.truncation = reply.truncated;
        metadata.response_code = reply.code.unwrap_or(ResponseCode::NoError);
        let mut edns = Edns::new();
        edns.set_max_payload(MOST_ANSWER_BYTES).set_version(0);
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if request.edns.is_some() {
            builder.edns(&edns);
        }
        let response = builder.build(metadata, &reply.answers, &reply.authorities, std::iter::empty(), &reply.additionals);
        handle.send_response(response).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "an answer could not be sent");
            ResponseInfo::from(hickory_server::proto::op::Header { metadata, counts: HeaderCounts::default() })
        })
    }
}

impl Answers {
    async fn reply(&self, request: &Request) -> Reply {
        if request.metadata.op_code != OpCode::Query || request.metadata.message_type != MessageType::Query {
            return Reply { code: Some(ResponseCode::NotImp), ..Reply::default() };
        }
        let [query] = request.queries.queries() else {
            return Reply { code: Some(ResponseCode::FormErr), ..Reply::default() };
        };
        let name = query.original().name().clone();
        let zone = Arc::clone(&self.zone.read().unwrap_or_else(PoisonError::into_inner));
        match zone.answer(&name.to_ascii(), question(query.query_type())) {
            Answer::Elsewhere => self.forward(request, &name, query.query_type()).await,
            Answer::Records(data) => self.records(&zone, &name, data, question(query.query_type())),
            Answer::NoData => Reply { authoritative: true, authorities: start_of_authority(&zone), ..Reply::default() },
            Answer::NoName => Reply { code: Some(ResponseCode::NXDomain), authoritative: true, authorities: start_of_authority(&zone), ..Reply::default() },
        }
    }

    fn records(&self, zone: &Zone, name: &Name, mut data: Vec<Data>, question: Question) -> Reply {
        // Clients take the first address: each begins at another.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % data.len().max(1);
        data.rotate_left(turn);
        let mut reply = Reply { authoritative: true, ..Reply::default() };
        let mut owner = name.clone();
        for _ in 0..MOST_ALIASES {
            reply.answers.extend(data.iter().filter_map(|data| record(&owner, data)));
            let [Data::Alias(target)] = data.as_slice() else { break };
            let (Answer::Records(next), Ok(target)) = (zone.answer(target, question), full_name(target)) else { break };
            (owner, data) = (target, next);
        }
        for record in &reply.answers {
            if let RData::SRV(service) = &record.data
                && let Answer::Records(addresses) = zone.answer(&service.target.to_ascii(), Question::Address)
            {
                reply.additionals.extend(addresses.iter().filter_map(|data| self::record(&service.target, data)));
            }
        }
        reply
    }

    async fn forward(&self, request: &Request, name: &Name, kind: RecordType) -> Reply {
        let failed = |code| Reply { code: Some(code), ..Reply::default() };
        let from_here = match request.src().ip() {
            IpAddr::V4(address) => !self.pods.contains(address) || Some(address) == self.pods.nth(1),
            IpAddr::V6(_) => true,
        };
        let Some(_asked) = self.upstreams.begin(&name.to_ascii(), kind.into(), from_here) else {
            tracing::warn!(%name, "a resolver of this machine sends cluster questions back here: a loop in resolv.conf");
            return failed(ResponseCode::Refused);
        };
        let Ok(bytes) = self.upstreams.ask(request.as_slice(), request.protocol() == Protocol::Tcp).await else {
            return failed(ResponseCode::ServFail);
        };
        let Ok(message) = Message::from_vec(&bytes) else { return failed(ResponseCode::ServFail) };
        Reply {
            code: Some(message.metadata.response_code),
            authoritative: false,
            truncated: message.metadata.truncation,
            answers: message.answers,
            authorities: message.authorities,
            additionals: message.additionals,
        }
    }
}

fn question(kind: RecordType) -> Question {
    match kind {
        RecordType::A => Question::Address,
        RecordType::SRV => Question::Service,
        RecordType::PTR => Question::Pointer,
        RecordType::CNAME => Question::Alias,
        RecordType::ANY => Question::All,
        _ => Question::Other,
    }
}

fn full_name(text: &str) -> Result<Name, hickory_server::proto::ProtoError> {
    let mut name = Name::from_str_relaxed(text)?;
    name.set_fqdn(true);
    Ok(name)
}

fn record(owner: &Name, data: &Data) -> Option<Record> {
    let data = match data {
        Data::Address(address) => RData::A(A(*address)),
        Data::Service { port, target } => RData::SRV(SRV::new(0, 100, *port, full_name(target).ok()?)),
        Data::Pointer(name) => RData::PTR(PTR(full_name(name).ok()?)),
        Data::Alias(name) => RData::CNAME(CNAME(full_name(name).ok()?)),
    };
    Some(Record::from_rdata(owner.clone(), TTL_SECONDS, data))
}

/// What a resolver keeps a "no" by.
fn start_of_authority(zone: &Zone) -> Vec<Record> {
    let names = [zone.domain().to_owned(), format!("ns.dns.{}", zone.domain()), format!("hostmaster.{}", zone.domain())].map(|name| full_name(&name));
    let [Ok(owner), Ok(server), Ok(person)] = names else { return Vec::new() };
    let data = SOA::new(server, person, 1, 7200, 1800, 86400, TTL_SECONDS);
    vec![Record::from_rdata(owner, TTL_SECONDS, RData::SOA(data))]
}

/// The port of DNS.
pub(crate) const PORT: u16 = 53;

impl NameServer {
    /// Where a name server at `address` listens.
    pub(crate) const fn socket(address: Ipv4Addr) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(address), PORT)
    }
}
