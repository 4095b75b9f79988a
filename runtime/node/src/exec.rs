//! Commands in running containers, with their streams bridged to channels.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use strake_container::{ContainerId, ExecProcess, ExecSpec, Executor};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::NodeError;

const BLOCK: usize = 32 * 1024;
/// After its output has ended, a process is asked so often whether it has too.
const PAUSE: Duration = Duration::from_millis(5);

/// What to run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// The container's name.
    pub container: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether input will come.
    pub stdin: bool,
    /// Run on a terminal; everything it says goes to `stdout`.
    pub tty: bool,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// The streams of an exec. When nobody listens to `stdout` any more, the process is ended.
#[derive(Debug)]
pub struct ExecStreams {
    /// Input; its end is the end of standard input.
    pub stdin: mpsc::Receiver<Bytes>,
    /// Where output goes.
    pub stdout: mpsc::Sender<Bytes>,
    /// Where errors go.
    pub stderr: mpsc::Sender<Bytes>,
    /// Sizes of the client's terminal.
    pub resize: mpsc::Receiver<TerminalSize>,
}

/// Runs a command until it ends and gives its exit code.
pub(crate) async fn run(executor: Arc<dyn Executor>, id: ContainerId, request: ExecRequest, streams: ExecStreams) -> Result<i32, NodeError> {
    let ExecRequest { container, command, stdin, tty } = request;
    let spec =
        ExecSpec { args: command.clone(), env: if tty { vec!["TERM=xterm".to_owned()] } else { Vec::new() }, cwd: None, user: None, terminal: tty, stdin };
    let failed = |source| NodeError::Exec { command: command.clone(), container: container.clone(), source: Box::new(source) };
    let broke = |source| NodeError::Stream { container: container.clone(), source };
    let begun = tokio::task::spawn_blocking(move || executor.exec(&id, &spec)).await;
    let mut process = begun.map_err(|error| broke(std::io::Error::other(error)))?.map_err(failed)?;
    let ExecStreams { stdin: input, stdout, stderr, mut resize } = streams;
    let listener = stdout.clone();
    let outputs = bridge(&mut process, input, stdout, stderr).map_err(broke)?;
    let mut resizing = true;
    let mut outputs = std::pin::pin!(outputs);
    loop {
        tokio::select! {
            () = &mut outputs => break,
            () = listener.closed() => {
                process.kill();
                break;
            }
            size = resize.recv(), if resizing => match size {
                Some(size) => { let _ = process.resize(size.height, size.width); }
                None => resizing = false,
            }
        }
    }
    loop {
        if let Some(code) = process.try_wait().map_err(failed)? {
            return Ok(code);
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = listener.closed() => process.kill(),
        }
    }
}

/// Connects the process's descriptors; the future is done when all output has been handed on.
fn bridge(
    process: &mut ExecProcess,
    input: mpsc::Receiver<Bytes>,
    stdout: mpsc::Sender<Bytes>,
    stderr: mpsc::Sender<Bytes>,
) -> std::io::Result<impl Future<Output = ()> + use<>> {
    let mut readers: Vec<JoinHandle<()>> = Vec::new();
    if let Some(terminal) = process.terminal.take() {
        write_to(terminal.try_clone()?, input)?;
        readers.push(read_from(terminal, stdout)?);
    } else {
        if let Some(stdin) = process.stdin.take() {
            write_to(stdin, input)?;
        }
        for (stream, sender) in [(process.stdout.take(), stdout), (process.stderr.take(), stderr)] {
            if let Some(stream) = stream {
                readers.push(read_from(stream, sender)?);
            }
        }
    }
    Ok(async move {
        for reader in readers {
            let _ = reader.await;
        }
    })
}

/// A thread that reads until the end. It blocks, so it isn't one of the runtime's few.
fn read_from(stream: OwnedFd, sender: mpsc::Sender<Bytes>) -> std::io::Result<JoinHandle<()>> {
    let (done, finished) = tokio::sync::oneshot::channel::<()>();
    std::thread::Builder::new().name("strake-exec-out".to_owned()).spawn(move || {
        let mut stream = File::from(stream);
        let mut buffer = vec![0; BLOCK];
        // A terminal whose other side was closed says so with an error.
        while let Ok(read) = stream.read(&mut buffer) {
            if read == 0 || sender.blocking_send(Bytes::copy_from_slice(&buffer[..read])).is_err() {
                break;
            }
        }
        drop(done);
    })?;
    Ok(tokio::spawn(async move {
        let _ = finished.await;
    }))
}

fn write_to(stream: OwnedFd, mut input: mpsc::Receiver<Bytes>) -> std::io::Result<()> {
    std::thread::Builder::new().name("strake-exec-in".to_owned()).spawn(move || {
        let mut stream = File::from(stream);
        while let Some(bytes) = input.blocking_recv() {
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}
