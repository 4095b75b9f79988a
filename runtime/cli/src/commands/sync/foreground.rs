//! Following one repository here, until Ctrl-C. What is known is kept in a file, so that the next time goes on with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use strake_sync::Status;
use tokio::sync::{Notify, watch};

use crate::args::Follow;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Paint, note};
use crate::sync::follower::{Follower, Keeper};
use crate::sync::hooks::{self, Door};
use crate::sync::keys::{KeyFiles, Keys};
use crate::sync::{Context, Key, controller};

fn folder(root: &Path) -> PathBuf {
    root.join("sync")
}

/// The objects of repositories that were followed in the foreground, with their status.
pub fn known(root: &Path) -> Vec<Value> {
    let entries = std::fs::read_dir(folder(root)).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|found| found == "json")).collect();
    paths.sort();
    paths.iter().filter_map(|path| serde_json::from_slice(&std::fs::read(path).ok()?).ok()).collect()
}

/// Follows until Ctrl-C.
pub fn run(root: &Path, args: &Follow, mut object: Value) -> Result<(), Failure> {
    let logins = &args.logins;
    let files = KeyFiles {
        token: logins.token_file.clone(),
        ssh_key: logins.ssh_key.clone(),
        known_hosts: logins.known_hosts.clone(),
        webhook: logins.webhook_secret_file.clone(),
        report: logins.report_token_file.clone().or_else(|| logins.token_file.clone()),
    };
    let key = Key::of(&object);
    strake_cluster::make_private(root, "sync")?;
    let path = folder(root).join(format!("{}.{}.json", key.namespace, key.name));
    let lock = File::create(path.with_extension("lock"))?;
    if lock.try_lock().is_err() {
        return Err(Failure::text(format!("{key} is followed already by another process with this state directory: give it another --name")));
    }
    resume(&path, &mut object);
    let paint = Paint::stderr();
    note(format!("{key} follows {}; Ctrl-C ends that", object["spec"]["url"].as_str().unwrap_or_default()));
    let door = controller::listen(&args.webhooks)?;
    interrupt::wait_or("the repository is not followed any more; what runs stays", async {
        let context = Context::new(root.to_owned(), None, args.target.clone());
        let object = Arc::new(object);
        let (_objects, received) = watch::channel(object.clone());
        let nudge = Arc::new(Notify::new());
        let keys = Keys::Files(files);
        if let Some((listener, tls)) = door {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let one = Door::One(key.clone(), object, keys.clone(), nudge.clone());
            tokio::spawn(strake_cluster::serve_hooks(listener, tls, hooks::heed(one)));
        }
        let said = std::sync::Mutex::new(String::new());
        let show = move |_: &Key, status: &Status| tell(paint, &said, status);
        Follower::new(context, keys, Keeper::File(path), received, nudge).run(show).await;
        drop(lock);
        Ok(())
    })
}

/// Goes on with what is known; another wish than last time is another generation.
fn resume(path: &Path, object: &mut Value) {
    let before: Value = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let generation = before["metadata"]["generation"].as_i64().unwrap_or(0);
    let same = generation > 0 && before["spec"] == object["spec"];
    object["metadata"]["generation"] = (if same { generation } else { generation + 1 }).into();
    object["status"] = before["status"].clone();
}

/// A line whenever there is something new to say.
fn tell(paint: Paint, said: &std::sync::Mutex<String>, status: &Status) {
    let Some(ready) = status.condition("Ready") else { return };
    let line = match ready.status.as_str() {
        "True" => format!("{}  {}", paint.green("ready"), ready.message),
        "False" => format!("{}  {}", paint.red("wrong"), ready.message),
        _ => format!("{}   {}", paint.yellow("next"), ready.message),
    };
    let mut said = said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if *said != line {
        note(&line);
        if let Some(detail) = status.history.first().filter(|last| ready.status == "False" && last.failed()).and_then(|last| last.detail.as_ref()) {
            note(detail);
        }
        *said = line;
    }
}
