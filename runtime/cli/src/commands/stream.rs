//! strake logs, strake exec

use std::io::IsTerminal;
use std::path::Path;

use bytes::Bytes;
use futures::StreamExt;
use serde_json::Value;
use strake_client::{Client, ExecEvent, ExecInput, ExecParams, ListParams, LogParams, Resource};
use tokio::io::AsyncReadExt;

use crate::args::{Exec, Logs, Scope};
use crate::commands::get::missing;
use crate::connect::connect;
use crate::failure::Failure;
use crate::output::{closed, error_bytes, raw};
use crate::select::{namespace, one};
use crate::terminal::RawMode;

/// How long a pod that is followed may take to begin.
const STARTING: std::time::Duration = std::time::Duration::from_secs(120);
const LOOK: std::time::Duration = std::time::Duration::from_millis(200);

/// The pod that is meant: itself, or the first (ready ones first) of what owns pods.
async fn pod(client: &Client, scope: &Scope, word: &str) -> Result<Value, Failure> {
    find(client, scope, word).await?.ok_or_else(|| Failure::text(format!("{word} has no pods")))
}

/// The same; `None` when what owns pods has none.
async fn find(client: &Client, scope: &Scope, word: &str) -> Result<Option<Value>, Failure> {
    let Some((kind, name)) = word.split_once('/') else {
        let found = client.get(&Resource::PODS, Some(&scope.namespace), word).await?;
        return found.map(Some).ok_or_else(|| missing(&Resource::PODS, word, &scope.namespace));
    };
    let (resource, name) = one(&[kind.to_owned(), name.to_owned()])?;
    let found = client.get(&resource, namespace(&resource, &scope.namespace), &name).await?;
    let object = found.ok_or_else(|| missing(&resource, &name, &scope.namespace))?;
    if resource.kind == "Pod" {
        return Ok(Some(object));
    }
    let labels = object["spec"]["selector"]["matchLabels"].as_object().or_else(|| object["spec"]["selector"].as_object());
    let pairs = labels.map(|labels| labels.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_str()?))).collect::<Vec<_>>());
    let selector = pairs.filter(|pairs| !pairs.is_empty()).map(|pairs| pairs.join(","));
    let selector = selector.ok_or_else(|| Failure::text(format!("{word} selects no pods")))?;
    let pods = client.list(&Resource::PODS, Some(&scope.namespace), &ListParams::labels(selector)).await?.items;
    let ready = |pod: &Value| pod["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"));
    // Of several the youngest: a Job's last attempt is what people ask about.
    let created = |pod: &Value| pod["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
    Ok(pods.into_iter().max_by_key(|pod| (ready(pod), created(pod))))
}

fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap_or_default()
}

/// The container that is meant; with several and none named, the first, as kubectl does.
fn container(pod: &Value, wanted: Option<&str>) -> Result<String, Failure> {
    let all = ["containers", "initContainers"].iter().filter_map(|list| pod["spec"][list].as_array()).flatten();
    let names: Vec<&str> = all.filter_map(|one| one["name"].as_str()).collect();
    match wanted {
        Some(wanted) if !names.contains(&wanted) => Err(Failure::text(format!("pod {} has no container {wanted}: it has {}", name(pod), names.join(", ")))),
        Some(wanted) => Ok(wanted.to_owned()),
        None => names.first().map(|first| (*first).to_owned()).ok_or_else(|| Failure::text("the pod has no container")),
    }
}

/// The pod, once its container has begun: who follows a Job that was just made loses no line because the pod is still on its way.
async fn coming(client: &Client, args: &Logs) -> Result<Value, Failure> {
    let deadline = tokio::time::Instant::now() + STARTING;
    loop {
        if tokio::time::Instant::now() > deadline {
            return pod(client, &args.scope, &args.pod).await;
        }
        match find(client, &args.scope, &args.pod).await? {
            Some(found) if has_begun(&found, &container(&found, args.container.as_deref())?) => return Ok(found),
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

/// A container has written, or could have; one that cannot start is not waited for.
fn has_begun(pod: &Value, name: &str) -> bool {
    let lists = ["containerStatuses", "initContainerStatuses"].iter().filter_map(|list| pod["status"][list].as_array()).flatten();
    let status = lists.into_iter().find(|status| status["name"] == name);
    status.is_some_and(|status| !matches!(status["state"]["waiting"]["reason"].as_str(), Some("ContainerCreating" | "PodInitializing")))
}

/// Prints a container's log.
pub async fn logs(root: &Path, args: &Logs) -> Result<(), Failure> {
    let client = connect(root, &args.scope.target).await?;
    let pod = if args.follow { coming(&client, args).await? } else { pod(&client, &args.scope, &args.pod).await? };
    let params = LogParams {
        container: Some(container(&pod, args.container.as_deref())?),
        follow: args.follow,
        previous: args.previous,
        tail: args.tail.and_then(|lines| u64::try_from(lines).ok()),
        timestamps: args.timestamps,
        ..LogParams::default()
    };
    let mut stream = client.logs(&args.scope.namespace, name(&pod), &params).await?;
    while let Some(chunk) = stream.next().await {
        raw(&chunk?);
        if closed() {
            break;
        }
    }
    Ok(())
}

/// Runs a command in a container; its exit code becomes ours.
pub async fn exec(root: &Path, args: &Exec) -> Result<(), Failure> {
    let client = connect(root, &args.scope.target).await?;
    let pod = pod(&client, &args.scope, &args.pod).await?;
    if args.tty && !std::io::stdin().is_terminal() {
        return Err(Failure::text("-t needs a terminal on stdin; leave it out in scripts"));
    }
    let params = ExecParams { container: Some(container(&pod, args.container.as_deref())?), command: args.command.clone(), stdin: args.stdin, tty: args.tty };
    let mut process = client.exec(&args.scope.namespace, name(&pod), &params).await?;
    let raw_mode = args.tty.then(RawMode::enter).transpose()?;
    if args.stdin {
        tokio::spawn(pump_stdin(process.input()));
    }
    if args.tty {
        tokio::spawn(follow_size(process.input()));
    }
    let mut code = None;
    while let Some(event) = process.next().await {
        match event? {
            ExecEvent::Stdout(bytes) => raw(&bytes),
            ExecEvent::Stderr(bytes) => error_bytes(&bytes),
            ExecEvent::Exit(ended) => code = Some(ended),
            ExecEvent::Failed(status) => return Err(Failure::text(format!("the command did not run: {}", status.message))),
        }
    }
    drop(raw_mode);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(Failure::silent(u8::try_from(code).unwrap_or(1))),
        None => Err(Failure::text("the connection to the container was lost")),
    }
}

async fn pump_stdin(input: tokio::sync::mpsc::Sender<ExecInput>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 8192];
    loop {
        let message = match stdin.read(&mut buffer).await {
            Ok(0) | Err(_) => ExecInput::CloseStdin,
            Ok(length) => ExecInput::Stdin(Bytes::copy_from_slice(&buffer[..length])),
        };
        let last = message == ExecInput::CloseStdin;
        if input.send(message).await.is_err() || last {
            return;
        }
    }
}

async fn follow_size(input: tokio::sync::mpsc::Sender<ExecInput>) {
    let Ok(mut changes) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change()) else { return };
    loop {
        if let Ok(size) = rustix::termios::tcgetwinsize(std::io::stdout())
            && input.send(ExecInput::Resize { width: size.ws_col, height: size.ws_row }).await.is_err()
        {
            return;
        }
        changes.recv().await;
    }
}
