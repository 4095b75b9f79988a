//! Images between the store, registries and archives: `strake image pull`, `push`, `save`, `load`; and what an image is made of: `history`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use serde_json::json;
use strake_oci::{Digest, Platform};
use strake_registry::{PullOptions, PushOptions, Pushed, Sent};
use strake_store::{Compression, Packing, Store};

use crate::args::Format;
use crate::commands::arriving::Arriving;
use crate::commands::images::{familiar, full, named};
use crate::commands::serve::need_root;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{data, note, raw, say, size, table};

/// Examples of pulls, and where registries are set.
pub const PULL_HELP: &str =
    "Mirrors, plain HTTP and certificates of registries are set in registries.yaml of the state directory, else in /etc/strake/registries.yaml:

  registries:
    docker.io:
      mirrors: [https://mirror.example.org/hub, http://10.0.0.5:5000]   asked first, in this order
    registry.example.org:5000:
      insecure: true            plain HTTP
    git.example.org:
      ca: ca.pem                authorities trusted besides the system's; relative to the file
      skipVerify: false         true: TLS without looking at the certificate
      auth: [login.example.net] other hosts that may be sent its login

This machine itself (localhost) is spoken to in plain HTTP, unless ca or skipVerify is set for it.
Logins are docker's: config.json in $DOCKER_CONFIG or ~/.docker, with its credential helpers.

Examples:
  strake image pull registry.example.com/team/web:1
  strake image pull --platform linux/arm64 web
  strake image pull --all-platforms web";

/// What to pull.
#[derive(clap::Args, Debug)]
pub struct Pull {
    /// The image
    pub reference: String,
    /// The image for this platform [default: this machine's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]", conflicts_with = "all_platforms")]
    pub platform: Option<String>,
    /// The images for all platforms, with their index under its digest
    #[arg(long)]
    pub all_platforms: bool,
    /// Layers at the same time
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub jobs: usize,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

/// Pulls an image into the store.
pub fn pull(root: &Path, args: &Pull) -> Result<(), Failure> {
    let store = Store::open(root)?;
    let full = full(&args.reference)?;
    let platform = match &args.platform {
        Some(text) => text.parse().map_err(|error| Failure::text(format!("--platform {text}: {error}")).with_code(2))?,
        None => Platform::host(),
    };
    let options = PullOptions { all_platforms: args.all_platforms, concurrency: args.jobs.max(1), ..PullOptions::default() };
    let view = Arriving::new(args.quiet);
    let pulled = interrupt::wait_or("what has arrived is kept; run it again to go on", async {
        Ok(strake_registry::pull_with(&full, &platform, &store, &|event| view.show(&event), &options).await?)
    });
    view.end();
    let image = pulled?;
    say(format!("{}  {}  {}", familiar(&full), image.config_digest.short(), size(image.size_bytes())));
    Ok(())
}

/// Pushes an image of the store, under its own name or another.
pub fn push(root: &Path, image: &str, reference: Option<&str>, compression: Option<Packing>) -> Result<(), Failure> {
    let store = Store::open(root)?;
    let target = full(reference.unwrap_or(image))?;
    let digest = push_image(&store, &named(image)?, &target, &PushOptions { compression, ..PushOptions::default() })?;
    say(format!("{}  {digest}", familiar(&target)));
    Ok(())
}

/// Pushes and says what is sent. `name` and `reference` are in their long form.
pub fn push_image(store: &Store, name: &str, reference: &str, options: &PushOptions) -> Result<Digest, Failure> {
    let tell = |pushed: Pushed| {
        let how = match pushed.how {
            Sent::Present => "is there",
            Sent::Mounted => "taken from another repository",
            _ => "sent",
        };
        note(format!("{}  {}  {}  {how}", familiar(reference), pushed.digest.short(), size(pushed.size_bytes)));
    };
    interrupt::wait_or("what has arrived is kept; run it again to go on", async { Ok(strake_registry::push(name, reference, store, &tell, options).await?) })
}

/// Writes images as one archive that `docker load` takes.
pub fn save(root: &Path, references: &[String], output: Option<&Path>) -> Result<(), Failure> {
    let store = Store::open(root)?;
    let names = references.iter().map(|reference| named(reference)).collect::<Result<Vec<_>, _>>()?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Some(path) = output {
        store.export_docker_all(&names, path)?;
        return Ok(());
    }
    if std::io::stdout().is_terminal() {
        return Err(Failure::text("an archive is nothing for a terminal: name a file with -o, or send stdout elsewhere").with_code(2));
    }
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("images.tar");
    store.export_docker_all(&names, &path)?;
    let mut file = std::fs::File::open(&path)?;
    let mut piece = vec![0; 256 << 10];
    loop {
        match std::io::Read::read(&mut file, &mut piece)? {
            0 => return Ok(()),
            got => raw(&piece[..got]),
        }
    }
}

/// Takes in the images of an archive, from a file or stdin.
pub fn load(root: &Path, input: Option<&Path>) -> Result<(), Failure> {
    need_root("strake image load")?;
    let store = Store::open(root)?;
    let spooled;
    let path = match input {
        Some(path) => path.to_owned(),
        None => {
            spooled = spool()?;
            spooled.path().to_owned()
        }
    };
    for one in store.import_archive(&path)? {
        say(format!("{}  {}", one.reference.as_deref().map_or_else(|| "(no name)".to_owned(), familiar), one.image.config_digest.short()));
    }
    Ok(())
}

/// Stdin in a file: archives are read back and forth.
pub fn spool() -> Result<tempfile::NamedTempFile, Failure> {
    if std::io::stdin().is_terminal() {
        return Err(Failure::text("stdin is a terminal: send an archive into it, or name a file").with_code(2));
    }
    let mut file = tempfile::NamedTempFile::new()?;
    std::io::copy(&mut std::io::stdin().lock(), &mut file)?;
    Ok(file)
}

/// Shows the rows of an image's history, the newest first, each with the size of its layer.
pub fn history(root: &Path, reference: &str, full_text: bool, format: Format) -> Result<(), Failure> {
    let image = Store::open(root)?.image(&named(reference)?)?;
    let mut layers = image.manifest.layers().iter();
    let rows: Vec<_> = image
        .config
        .history
        .iter()
        .map(|row| (row, if row.empty_layer { None } else { layers.next() }))
        .map(|(row, layer)| (row, layer.map_or(0, strake_oci::Descriptor::size), layer.map(|layer| layer.digest().to_string())))
        .collect();
    if format != Format::Text {
        let rows: Vec<_> = rows
            .iter()
            .rev()
            .map(|(row, bytes, digest)| {
                json!({"createdBy": row.created_by, "created": row.created, "comment": row.comment, "emptyLayer": row.empty_layer, "sizeBytes": bytes, "digest": digest})
            })
            .collect();
        say(data(&rows, format));
        return Ok(());
    }
    let shown = |text: &str| {
        let line = text.replace('\n', " ");
        if full_text || line.chars().count() <= 80 { line } else { format!("{}…", line.chars().take(79).collect::<String>()) }
    };
    let rows: Vec<Vec<String>> = rows.iter().rev().map(|(row, bytes, _)| vec![shown(&row.created_by), size(*bytes), row.comment.clone()]).collect();
    say(table(&["CREATED BY", "SIZE", "COMMENT"], &rows));
    Ok(())
}

/// The compression that a word names; nothing for one that layers cannot have.
pub fn compression(word: &str) -> Option<Packing> {
    let compression = match word {
        "gzip" => Compression::Gzip,
        "zstd" => Compression::Zstd,
        "uncompressed" => Compression::None,
        _ => return None,
    };
    Some(compression.into())
}

/// A compression (gzip, where none was named) with the level that was asked for.
pub fn at_level(packing: Option<Packing>, level: Option<&str>) -> Result<Option<Packing>, String> {
    let Some(level) = level else { return Ok(packing) };
    let number = level.parse().map_err(|_| format!("compression-level={level}: expected a number: 0 to 9 for gzip, 1 to 22 for zstd"))?;
    let found = Packing::at_level(packing.unwrap_or_default().compression, number);
    found.map(Some).map_err(|error| format!("compression-level={level}: {error}"))
}

/// A path that may be `-` for stdin.
pub fn or_stdin(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| path.as_os_str() != "-")
}
