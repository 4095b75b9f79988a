//! Probes and life cycle hooks: looking at a container from the node, by HTTP, TCP or a command in it.

use std::io::Read;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use strake_container::{ContainerId, ExecSpec, Executor};
use strake_kinds::IntOrString;
use strake_kinds::core::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction};
use strake_pod::ProbeOutcome;
use tokio::net::TcpStream;

use crate::images::text;

/// Of an answer or an output, in a message.
const MOST_SHOWN: usize = 10 * 1024;
/// Read of an answer's body, so that the server can finish.
const MOST_BODY: usize = 1 << 20;

/// What is looked at.
pub(crate) struct Target<'a> {
    pub container: &'a Container,
    pub id: ContainerId,
    pub pod_ip: String,
    pub executor: Arc<dyn Executor>,
}

/// Runs a probe once.
pub(crate) async fn run(target: &Target<'_>, probe: &Probe, timeout: Duration) -> ProbeOutcome {
    let looked = async {
        if let Some(get) = &probe.http_get {
            return http(target, get, "kube-probe/1.33").await.map_err(|failure| failure.probe());
        }
        if let Some(socket) = &probe.tcp_socket {
            return tcp(target, socket).await;
        }
        if let Some(command) = &probe.exec {
            return exec(target, command).await;
        }
        Err("this kind of probe is not supported: httpGet, tcpSocket and exec are".to_owned())
    };
    match tokio::time::timeout(timeout, looked).await {
        Ok(Ok(())) => ProbeOutcome::Success,
        Ok(Err(message)) => ProbeOutcome::Failure(message),
        Err(_) => ProbeOutcome::Failure(format!("probe timed out after {}s", timeout.as_secs())),
    }
}

/// Runs a postStart or preStop hook.
///
/// # Errors
/// What went wrong, in words for the event.
pub(crate) async fn hook(target: &Target<'_>, handler: &LifecycleHandler) -> Result<(), String> {
    if let Some(command) = &handler.exec {
        return exec(target, command).await;
    }
    if let Some(get) = &handler.http_get {
        return http(target, get, "kube-lifecycle/1.33").await.map_err(|failure| failure.probe());
    }
    if let Some(socket) = &handler.tcp_socket {
        return tcp(target, socket).await;
    }
    if let Some(pause) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(pause.seconds).unwrap_or(0))).await;
    }
    Ok(())
}

/// The number of a port given as number or name.
fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name.as_str()));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0).ok_or_else(|| match port {
        IntOrString::Int(number) => format!("invalid port number: {number}"),
        IntOrString::String(name) => format!("couldn't find port: {name}"),
    })
}

async fn address(host: Option<&str>, pod_ip: &str, port: u16) -> Result<SocketAddr, String> {
    let host = host.filter(|host| !host.is_empty()).unwrap_or(pod_ip);
    let mut found = tokio::net::lookup_host((host.to_owned(), port)).await.map_err(|error| format!("lookup {host}: {error}"))?;
    found.next().ok_or_else(|| format!("lookup {host}: no address"))
}

async fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).await.map_err(|error| format!("dial tcp {address}: connect: {}", plain(&error)))
}

/// An error of the system in the system's own words, without its number.
fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

async fn tcp(target: &Target<'_>, socket: &TCPSocketAction) -> Result<(), String> {
    let port = port(target.container, &socket.port)?;
    connect(address(socket.host.as_deref(), &target.pod_ip, port).await?).await.map(|_| ())
}

/// How an HTTP look failed.
enum HttpFailure {
    Before(String),
    Status(u16),
}

impl HttpFailure {
    fn probe(self) -> String {
        match self {
            HttpFailure::Before(message) => message,
            HttpFailure::Status(code) => format!("HTTP probe failed with statuscode: {code}"),
        }
    }
}

async fn http(target: &Target<'_>, get: &HTTPGetAction, agent: &str) -> Result<(), HttpFailure> {
    let before = HttpFailure::Before;
    let scheme = get.scheme.as_deref().unwrap_or("HTTP").to_ascii_lowercase();
    if scheme != "http" {
        return Err(before(format!("scheme {} of an httpGet probe is not supported yet: HTTP is", scheme.to_ascii_uppercase())));
    }
    let port = port(target.container, &get.port).map_err(before)?;
    let path = match get.path.as_deref().unwrap_or("/") {
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/{path}"),
    };
    let host = get.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(&target.pod_ip);
    let url = format!("http://{host}:{port}{path}");
    let failed = |reason: String| HttpFailure::Before(format!("Get \"{url}\": {reason}"));
    let address = address(get.host.as_deref(), &target.pod_ip, port).await.map_err(failed)?;
    let stream = connect(address).await.map_err(failed)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(text(&error)))?;
    let connection = tokio::spawn(connection);
    let mut request = http::Request::get(&path).header("User-Agent", agent).header("Accept", "*/*").header("Connection", "close");
    let own: Vec<(&str, &str)> = get.http_headers.iter().flatten().map(|header| (header.name.as_str(), header.value.as_str())).collect();
    if !own.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header("Host", format!("{host}:{port}"));
    }
    for (name, value) in own {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|error| failed(text(&error)))?;
    let answer = sender.send_request(request).await.map_err(|error| failed(text(&error)))?;
    let code = answer.status().as_u16();
    // The server is let finish: one that is cut off logs an error at every look.
    let _ = Limited::new(answer.into_body(), MOST_BODY).collect().await;
    connection.abort();
    if (200..400).contains(&code) { Ok(()) } else { Err(HttpFailure::Status(code)) }
}

async fn exec(target: &Target<'_>, command: &ExecAction) -> Result<(), String> {
    let args = command.command.clone().unwrap_or_default();
    let (executor, id) = (Arc::clone(&target.executor), target.id.clone());
    let (cancel, cancelled) = std::sync::mpsc::channel::<()>();
    let ran = tokio::task::spawn_blocking(move || run_command(executor.as_ref(), &id, args, &cancelled));
    let (code, output) = ran.await.map_err(|error| error.to_string())??;
    // Dropped earlier, when the time is over, it tells the command's thread to end it.
    drop(cancel);
    if code == 0 { Ok(()) } else { Err(if output.is_empty() { format!("command exited with code {code}") } else { output }) }
}

fn run_command(executor: &dyn Executor, id: &ContainerId, args: Vec<String>, cancelled: &std::sync::mpsc::Receiver<()>) -> Result<(i32, String), String> {
    let spec = ExecSpec { args, env: Vec::new(), cwd: None, user: None, terminal: false, stdin: false };
    let mut process = executor.exec(id, &spec).map_err(|error| text(&error))?;
    let mut readers = Vec::new();
    for stream in [process.stdout.take(), process.stderr.take()].into_iter().flatten() {
        readers.push(std::thread::spawn(move || read_some(std::fs::File::from(stream))));
    }
    let pause = Duration::from_millis(2);
    let code = loop {
        if let Some(code) = process.try_wait().map_err(|error| text(&error))? {
            break code;
        }
        if cancelled.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected) {
            process.kill();
            return Err("cancelled".to_owned());
        }
    };
    let output: Vec<u8> = readers.into_iter().filter_map(|reader| reader.join().ok()).flatten().collect();
    Ok((code, String::from_utf8_lossy(&output).into_owned()))
}

/// The beginning of an output; the rest is read away, so that the command isn't held up.
fn read_some(mut stream: std::fs::File) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read) = stream.read(&mut buffer) {
        if read == 0 {
            break;
        }
        let room = MOST_SHOWN.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..read.min(room)]);
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;
    use strake_container::{Recorder, Script};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn look(probe: serde_json::Value) -> ProbeOutcome {
        let container: Container = serde_json::from_value(json!({"name": "c", "ports": [{"name": "web", "containerPort": 1}]})).unwrap();
        let executor = Arc::new(Recorder::new());
        executor.script_exec("good", 0, b"");
        executor.script_exec("bad", 3, b"no luck");
        let id = ContainerId("u_c_0".to_owned());
        executor.script("x", Script::Run);
        let target = Target { container: &container, id, pod_ip: "127.0.0.1".to_owned(), executor };
        run(&target, &serde_json::from_value(probe).unwrap(), Duration::from_secs(1)).await
    }

    fn failure(outcome: ProbeOutcome) -> String {
        match outcome {
            ProbeOutcome::Failure(text) => text,
            ProbeOutcome::Success => "success".to_owned(),
        }
    }

    #[tokio::test]
    async fn http_and_tcp_say_what_they_found() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = vec![0; 4096];
                    let read = stream.read(&mut buffer).await.unwrap_or(0);
                    let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                    let code = if text.starts_with("GET /ok") && text.to_lowercase().contains("x-own: 1") { "200 OK" } else { "503 Nope" };
                    let _ = stream.write_all(format!("HTTP/1.1 {code}\r\nContent-Length: 2\r\n\r\nhi").as_bytes()).await;
                });
            }
        });
        let headers = json!([{"name": "X-Own", "value": "1"}]);
        assert_eq!(look(json!({"httpGet": {"port": port, "path": "/ok", "httpHeaders": headers}})).await, ProbeOutcome::Success);
        assert_eq!(failure(look(json!({"httpGet": {"port": port}})).await), "HTTP probe failed with statuscode: 503");
        assert_eq!(look(json!({"tcpSocket": {"port": port}})).await, ProbeOutcome::Success);
        let refused = failure(look(json!({"httpGet": {"port": "web"}})).await);
        assert_eq!(refused, "Get \"http://127.0.0.1:1/\": dial tcp 127.0.0.1:1: connect: connection refused");
        assert_eq!(failure(look(json!({"tcpSocket": {"port": "none"}})).await), "couldn't find port: none");
        assert!(failure(look(json!({"httpGet": {"port": 1, "scheme": "HTTPS"}})).await).contains("not supported yet"));
    }

    #[tokio::test]
    async fn a_server_that_says_nothing_times_out() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(failure(look(json!({"httpGet": {"port": port}})).await), "probe timed out after 1s");
    }
}
