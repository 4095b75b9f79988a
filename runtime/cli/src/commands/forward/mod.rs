//! strake port-forward, and the ports that the development loop forwards: a listener on this machine for each, and for each connection a way into a pod.

mod route;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};
use strake_client::{Client, ClientError, Forward, ListParams, Resource};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::args::{Format, PortForward};
use crate::commands::get::missing;
use crate::connect::connect;
use crate::failure::{Failure, chain};
use crate::output::{data, note, say};
use crate::select::{namespace, one};
pub use route::{Pods, Port, Route, is_taking, of_plan, selector};

/// How long a connection waits for a pod that takes it: while pods are replaced it is there to be waited for.
const HOLD: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(40);
/// How long the pod's answer may be silent once this side has nothing more to say.
const LINGER: Duration = Duration::from_secs(30);
const PIECE: usize = 32 << 10;
/// Numbers that are tried when the wished one is taken.
const NEXT: u16 = 64;

/// A route that has a listener.
struct Opened {
    route: Arc<Mutex<Route>>,
    local: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A route and where it is on this machine.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The route.
    pub route: Route,
    /// The address here.
    pub local: SocketAddr,
}

/// All that is forwarded. Ends with it.
pub struct Forwards {
    client: Client,
    open: BTreeMap<(String, String, u16), Opened>,
    /// Raised when pods were replaced: connections to those that have gone end.
    turn: watch::Sender<u64>,
}

impl Forwards {
    /// Nothing yet.
    pub fn new(client: Client) -> Forwards {
        Forwards { client, open: BTreeMap::new(), turn: watch::Sender::new(0) }
    }

    /// Opens what is new, closes what is gone, keeps the rest where it is. What was opened, and what could not be.
    pub async fn update(&mut self, routes: &[Route]) -> (Vec<Entry>, Vec<String>) {
        self.open.retain(|key, _| routes.iter().any(|route| route.key() == *key));
        let (mut opened, mut failed) = (Vec::new(), Vec::new());
        for route in routes {
            if let Some(open) = self.open.get(&route.key()) {
                *open.route.lock().unwrap_or_else(PoisonError::into_inner) = route.clone();
                continue;
            }
            match listen(route.wished()).await {
                Ok(listener) => match self.serve(route.clone(), listener) {
                    Ok(local) => opened.push(Entry { route: route.clone(), local }),
                    Err(error) => failed.push(format!("{}: {error}", route.what)),
                },
                Err(error) => failed.push(format!("{} is not forwarded: {error}", route.what)),
            }
        }
        (opened, failed)
    }

    /// Forwards what a listener takes.
    pub fn serve(&mut self, route: Route, listener: TcpListener) -> io::Result<SocketAddr> {
        let local = listener.local_addr()?;
        let key = route.key();
        let route = Arc::new(Mutex::new(route));
        let task = tokio::spawn(accept(listener, self.client.clone(), Arc::clone(&route), self.turn.subscribe()));
        self.open.insert(key, Opened { route, local, task });
        Ok(local)
    }

    /// Pods were replaced.
    pub fn turned(&self) {
        self.turn.send_modify(|turn| *turn += 1);
    }

    /// Everything that is forwarded.
    pub fn entries(&self) -> Vec<Entry> {
        let entry = |open: &Opened| Entry { route: open.route.lock().unwrap_or_else(PoisonError::into_inner).clone(), local: open.local };
        self.open.values().map(entry).collect()
    }
}

/// The wished port, or the next that is free.
async fn listen(wished: u16) -> io::Result<TcpListener> {
    for port in wished..=wished.saturating_add(NEXT) {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Err(error) if matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {}
            other => return other,
        }
    }
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
}

async fn accept(listener: TcpListener, client: Client, route: Arc<Mutex<Route>>, turn: watch::Receiver<u64>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let now = route.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    connections.spawn(connection(client.clone(), now, stream, turn.clone()));
                }
                // Out of descriptors: let some connections end.
                Err(_) => tokio::time::sleep(LOOK).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection from here into a pod.
async fn connection(client: Client, route: Route, stream: TcpStream, turn: watch::Receiver<u64>) {
    let _ = stream.set_nodelay(true);
    match reach(&client, &route, HOLD).await {
        Ok((pod, forward)) => {
            tokio::select! {
                () = pump(stream, forward) => {}
                () = replaced(&client, &route, &pod, turn) => {}
            }
        }
        Err(why) => note(format!("a connection to {} was not forwarded: {why}", route.what)),
    }
}

/// Opens a way into a pod that takes it, waiting for one as long as that is worth it.
///
/// # Errors
/// Why the last try failed, in words.
pub async fn reach(client: &Client, route: &Route, hold: Duration) -> Result<(String, Forward), String> {
    let end = Instant::now() + hold;
    loop {
        let why = match attempt(client, route).await {
            Ok(found) => return Ok(found),
            Err(why) => why,
        };
        if Instant::now() > end {
            return Err(why);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn attempt(client: &Client, route: &Route) -> Result<(String, Forward), String> {
    let found = candidates(client, route).await.map_err(|error| chain(&error))?;
    let pod = route::choose(found).ok_or("no pod is ready")?;
    let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let port = route.number(&pod).ok_or_else(|| format!("pod {name} has no port of that name"))?;
    let mut forward = client.forward(&route.namespace, &name, port).await.map_err(|error| chain(&error))?;
    forward.opened().await.map_err(|error| chain(&error))?;
    Ok((name, forward))
}

async fn candidates(client: &Client, route: &Route) -> Result<Vec<Value>, ClientError> {
    match &route.pods {
        Pods::Named(name) => Ok(client.get(&Resource::PODS, Some(&route.namespace), name).await?.into_iter().collect()),
        Pods::Labelled(labels) => Ok(client.list(&Resource::PODS, Some(&route.namespace), &ListParams::labels(labels.clone())).await?.items),
    }
}

/// Ends once the pod of a connection takes no more of them: whoever uses it connects again, to what came in its place.
async fn replaced(client: &Client, route: &Route, pod: &str, mut turn: watch::Receiver<u64>) {
    while turn.changed().await.is_ok() {
        let found = candidates(client, route).await;
        if found.is_ok_and(|found| !found.iter().any(|one| one["metadata"]["name"] == pod && is_taking(one))) {
            return;
        }
    }
    std::future::pending().await
}

async fn pump(mut stream: TcpStream, mut forward: Forward) {
    let outgoing = forward.outgoing();
    let (mut source, mut sink) = stream.split();
    let mut buffer = BytesMut::with_capacity(PIECE);
    let mut open = true;
    loop {
        tokio::select! {
            read = source.read_buf(&mut buffer), if open => match read {
                Ok(0) => open = false,
                Ok(_) => {
                    let piece: Bytes = buffer.split().freeze();
                    buffer.reserve(PIECE);
                    if outgoing.send(piece).await.is_err() { open = false }
                }
                Err(_) => return,
            },
            piece = forward.next() => match piece {
                Some(Ok(piece)) => if sink.write_all(&piece).await.is_err() { return },
                Some(Err(_)) | None => break,
            },
            () = tokio::time::sleep(LINGER), if !open => break,
        }
    }
    // What was written is to arrive before the end.
    let _ = sink.shutdown().await;
}

/// `[LOCAL:]PORT`: the port here (`None`: as it is there; 0: any) and the port there.
fn words(text: &str) -> Result<(Option<u16>, Port), Failure> {
    let wrong = || Failure::text(format!("{text}: expected [LOCAL:]PORT, such as 8080:80, 8080 or :http")).with_code(2);
    let (local, remote) = match text.split_once(':') {
        Some(("", remote)) => (Some(0), remote),
        Some((local, remote)) => (Some(local.parse().map_err(|_| wrong())?), remote),
        None => (None, text),
    };
    match remote.parse::<u16>() {
        Ok(0) => Err(wrong()),
        Ok(number) => Ok((local, Port::Number(number))),
        Err(_) if remote.is_empty() || remote.bytes().all(|byte| byte.is_ascii_digit()) => Err(wrong()),
        Err(_) => Ok((local, Port::Name(remote.to_owned()))),
    }
}

/// Forwards ports until it is interrupted.
pub async fn run(root: &Path, args: &PortForward) -> Result<(), Failure> {
    let wishes = args.ports.iter().map(|text| words(text)).collect::<Result<Vec<_>, Failure>>()?;
    let client = connect(root, &args.scope.target).await?;
    let space = &args.scope.namespace;
    let (what, object) = object(&client, space, &args.target).await?;
    let mut forwards = Forwards::new(client);
    for (local, wish) in wishes {
        let route = single(space, &what, &object, wish)?;
        let port = local.unwrap_or(route.shown);
        let listener = TcpListener::bind((args.address, port)).await;
        let listener = listener.map_err(|source| Failure::text(format!("cannot listen at {}: {source}", SocketAddr::new(args.address, port))))?;
        let key = route.key();
        if forwards.open.contains_key(&key) {
            return Err(Failure::text(format!("port {} is named twice", key.2)).with_code(2));
        }
        forwards.serve(route, listener)?;
    }
    if args.output == Format::Text {
        forwards.entries().iter().for_each(|entry| say(format!("forwarding {} -> {} port {}", entry.local, entry.route.what, entry.route.shown)));
    } else {
        let one =
            |entry: Entry| json!({"local": entry.local.to_string(), "namespace": entry.route.namespace, "object": entry.route.what, "port": entry.route.shown});
        say(data(&forwards.entries().into_iter().map(one).collect::<Vec<_>>(), args.output));
    }
    std::future::pending().await
}

async fn object(client: &Client, space: &str, word: &str) -> Result<(String, Value), Failure> {
    let (kind, name) = word.split_once('/').unwrap_or(("pod", word));
    let (resource, name) = one(&[kind.to_owned(), name.to_owned()])?;
    let found = client.get(&resource, namespace(&resource, space), &name).await?;
    let object = found.ok_or_else(|| missing(&resource, &name, space))?;
    Ok((format!("{}/{name}", resource.kind.to_lowercase()), object))
}

/// The route that a person means.
fn single(space: &str, what: &str, object: &Value, wish: Port) -> Result<Route, Failure> {
    let none = |has: Vec<u16>| {
        let has: Vec<String> = has.iter().map(u16::to_string).collect();
        let wish = match &wish {
            Port::Number(number) => number.to_string(),
            Port::Name(name) => name.clone(),
        };
        Failure::text(format!("{what} has no TCP port {wish}: it has {}", if has.is_empty() { "none".to_owned() } else { has.join(", ") }))
    };
    if what.starts_with("service/") {
        let routes = route::of_service(space, object);
        if selector(&object["spec"]["selector"]).is_none() {
            return Err(Failure::text(format!("{what} selects no pods: there is nothing to forward to")));
        }
        let named = |route: &Route| {
            let ports = object["spec"]["ports"].as_array().into_iter().flatten();
            let number = |port: &Value| route::number(&port["port"]) == Some(route.shown);
            match &wish {
                Port::Number(wish) => route.shown == *wish,
                Port::Name(wish) => ports.filter(|port| number(port)).any(|port| port["name"] == wish.as_str()),
            }
        };
        let has = routes.iter().map(|route| route.shown).collect();
        return routes.into_iter().find(named).ok_or_else(|| none(has));
    }
    let is_pod = what.starts_with("pod/");
    let pods = match (is_pod, &object["spec"]["selector"]) {
        (true, _) => Pods::Named(object["metadata"]["name"].as_str().unwrap_or_default().to_owned()),
        (false, labels) => {
            let labels = selector(&labels["matchLabels"]).or_else(|| selector(labels));
            Pods::Labelled(labels.ok_or_else(|| Failure::text(format!("{what} selects no pods: there is nothing to forward to")))?)
        }
    };
    let template = if is_pod { object } else { &object["spec"]["template"] };
    let mut route = Route { namespace: space.to_owned(), what: what.to_owned(), pods, port: wish.clone(), shown: 0 };
    route.shown = route.number(template).ok_or_else(|| none(Vec::new()))?;
    Ok(route)
}

/// An address as one opens it in a browser or a client.
pub fn place(local: SocketAddr) -> String {
    match local.ip() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) => format!("localhost:{}", local.port()),
        _ => local.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Port, single, words};

    #[test]
    fn ports_are_read_as_people_write_them() {
        let read = |text: &str| words(text).map_err(|failure| failure.code());
        assert_eq!(read("8080:80").ok(), Some((Some(8080), Port::Number(80))));
        assert_eq!(read("80").ok(), Some((None, Port::Number(80))));
        assert_eq!(read(":http").ok(), Some((Some(0), Port::Name("http".to_owned()))));
        for wrong in ["", "a:80", "80:", "0", "70000", "99999:80"] {
            assert_eq!(read(wrong).err(), Some(2), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "name": "http", "targetPort": 8080}]}});
        assert_eq!(single("x", "service/web", &service, Port::Name("http".to_owned())).map(|route| route.port).ok(), Some(Port::Number(8080)));
        let failure = single("x", "service/web", &service, Port::Number(81)).expect_err("no such port");
        assert!(failure.to_string().contains("it has 80"), "{failure}");
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}});
        assert_eq!(single("x", "pod/p", &pod, Port::Name("http".to_owned())).map(|route| route.shown).ok(), Some(8080));
        assert_eq!(single("x", "pod/p", &pod, Port::Number(9)).map(|route| route.shown).ok(), Some(9), "a port need not be declared");
        assert!(single("x", "service/out", &json!({"spec": {"ports": [{"port": 1}]}}), Port::Number(1)).is_err());
    }
}
