//! A registry in a few lines that answers as it is told.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a path answers with.
#[derive(Clone)]
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Said in the header, where it differs from the body's length.
    pub length: Option<usize>,
    /// Before the second half of the body.
    pub stall: Duration,
    /// Answers `Range: bytes=N-` with that part.
    pub ranged: bool,
    /// Sends no more of the body, and closes.
    pub cut: Option<usize>,
    /// Sends the body again and again, without saying how long it is.
    pub endless: bool,
}

impl Answer {
    pub(crate) fn ok(kind: &str, body: &[u8]) -> Self {
        let headers = vec![("Content-Type".to_owned(), kind.to_owned())];
        Answer { status: 200, headers, body: body.to_vec(), length: None, stall: Duration::ZERO, ranged: false, cut: None, endless: false }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn status(status: u16, body: &str) -> Self {
        Answer { status, ..Answer::ok("application/json", body.as_bytes()) }
    }
}

/// The registry; it ends with the test's runtime.
pub(crate) struct Mock {
    pub host: String,
    answers: Arc<Mutex<HashMap<String, Vec<Answer>>>>,
    log: Arc<Mutex<Vec<String>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Mock {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mock = Mock { host: listener.local_addr().unwrap().to_string(), answers: Arc::default(), log: Arc::default(), heads: Arc::default() };
        mock.on("/v2/", Answer::ok("application/json", b"{}"));
        let (answers, log, heads) = (Arc::clone(&mock.answers), Arc::clone(&mock.log), Arc::clone(&mock.heads));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answers), Arc::clone(&log), Arc::clone(&heads)));
            }
        });
        mock
    }

    /// Answers one after the other; the last one stays.
    pub(crate) fn on(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().entry(path.to_owned()).or_default().push(answer);
    }

    /// This answer and no other.
    pub(crate) fn only(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), vec![answer]);
    }

    /// The request lines and headers of everything that came, in lower case.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    pub(crate) fn asked(&self, path: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|known| *known == path).count()
    }
}

async fn serve(mut stream: TcpStream, answers: Arc<Mutex<HashMap<String, Vec<Answer>>>>, log: Arc<Mutex<Vec<String>>>, heads: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut piece = [0; 1024];
        match stream.read(&mut piece).await {
            Ok(got @ 1..) => request.extend_from_slice(&piece[..got]),
            _ => return,
        }
    }
    let end = request.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_default() + 4;
    let head = String::from_utf8_lossy(&request[..end]).into_owned();
    // A connection that is closed before its request was read is reset.
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()).unwrap_or(0);
    let mut rest = vec![0; length.saturating_sub(request.len() - end)];
    if stream.read_exact(&mut rest).await.is_err() {
        return;
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    log.lock().unwrap().push(path.clone());
    heads.lock().unwrap().push(head.to_lowercase());
    let login = head.lines().find_map(|line| line.strip_prefix("authorization: "));
    login.into_iter().for_each(|login| log.lock().unwrap().push(format!("{path} {login}")));
    let answer = {
        let mut answers = answers.lock().unwrap();
        match answers.get_mut(&path) {
            None => Answer::status(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"unknown"}]}"#),
            Some(list) if list.len() > 1 => list.remove(0),
            Some(list) => list[0].clone(),
        }
    };
    send(&mut stream, &head, answer).await;
}

async fn send(stream: &mut TcpStream, head: &str, answer: Answer) {
    let start = head.to_lowercase().lines().find_map(|line| line.strip_prefix("range: bytes=")?.split('-').next()?.parse::<usize>().ok());
    let part = start.filter(|start| answer.ranged && *start < answer.body.len());
    let (status, body) = part.map_or((answer.status, &answer.body[..]), |start| (206, &answer.body[start..]));
    let mut text = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
    if !answer.endless {
        text.push_str(&format!("Content-Length: {}\r\n", answer.length.unwrap_or(body.len())));
    }
    if let Some(start) = part {
        text.push_str(&format!("Content-Range: bytes {start}-{}/{}\r\n", answer.body.len() - 1, answer.body.len()));
    }
    answer.headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    text.push_str("\r\n");
    let _ = stream.write_all(text.as_bytes()).await;
    if answer.endless {
        while stream.write_all(body).await.is_ok() {}
        return;
    }
    let body = &body[..answer.cut.unwrap_or(body.len()).min(body.len())];
    let half = body.len() / 2;
    let _ = stream.write_all(&body[..half]).await;
    let _ = stream.flush().await;
    tokio::time::sleep(answer.stall).await;
    let _ = stream.write_all(&body[half..]).await;
    let _ = stream.shutdown().await;
}
