//! The images that the cases start from, and requests.

use std::collections::BTreeMap;

use strake_oci::{ContainerConfig, Digest, HistoryEntry, ImageConfig, RootFs};
use strake_plan::{BuildPlan, Context, ContextKind};
use strake_source::{Diagnostic, FileId};
use strake_stages::{BaseImage, Request, base_references, lower};

fn context(path: &str) -> Context {
    Context { kind: ContextKind::Directory { path: path.to_owned() }, ignore: Vec::new() }
}

fn image(reference: &str, config: ContainerConfig, layers: usize) -> BaseImage {
    let diff_ids = (0..layers).map(|layer| Digest::of(format!("{reference} {layer}").as_bytes())).collect();
    let history = (0..layers).map(|layer| HistoryEntry {
        created: Some("2020-01-01T00:00:00Z".to_owned()),
        created_by: format!("layer {layer}"),
        ..HistoryEntry::default()
    });
    let config = ImageConfig {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        created: Some("2020-01-01T00:00:00Z".to_owned()),
        config,
        history: history.collect(),
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        ..ImageConfig::default()
    };
    BaseImage { reference: reference.to_owned(), manifest: Digest::of(reference.as_bytes()), config }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// `busybox`, `configured`, `triggers` and `bare`, and `busybox` for arm64.
pub fn all() -> BTreeMap<String, BaseImage> {
    let busybox = ContainerConfig { env: words(&["PATH=/bin", "BASE=yes"]), cmd: Some(words(&["sh"])), ..ContainerConfig::default() };
    let configured = ContainerConfig {
        env: words(&["A=base", "PATH=/p"]),
        user: "app".to_owned(),
        working_dir: "/home".to_owned(),
        entrypoint: Some(words(&["/entry"])),
        cmd: Some(words(&["base-cmd"])),
        labels: BTreeMap::from([("from".to_owned(), "base".to_owned())]),
        shell: words(&["/bin/ash", "-ec"]),
        ..ContainerConfig::default()
    };
    let triggers = ContainerConfig {
        on_build: words(&["COPY --from=helper /x /x", "RUN <<EOF\necho triggered $BASE\nEOF", "ENV T=1 \\\n U=2"]),
        ..ContainerConfig::default()
    };
    let images = [
        ("docker.io/library/busybox:latest", busybox.clone(), 1),
        ("docker.io/library/busybox:latest linux/arm64", busybox, 2),
        ("docker.io/library/configured:1", configured, 2),
        ("docker.io/library/triggers:latest", triggers, 1),
        ("docker.io/library/bare:latest", ContainerConfig::default(), 0),
    ];
    images.into_iter().map(|(key, config, layers)| (key.to_owned(), image(key.split(' ').next().unwrap_or(key), config, layers))).collect()
}

/// A request for a Dockerfile that parses.
pub fn request(text: &str) -> (Request, Vec<Diagnostic>) {
    let (file, diagnostics) = strake_dockerfile::parse(FileId(0), text);
    let request = Request {
        file,
        file_name: "Dockerfile".to_owned(),
        target: None,
        build_args: BTreeMap::new(),
        platform: "linux/amd64".parse().expect("a platform"),
        build_platform: "linux/arm64".parse().expect("a platform"),
        tags: Vec::new(),
        labels: BTreeMap::new(),
        no_cache: false,
        context_name: "main".to_owned(),
        context: context("."),
        named_contexts: BTreeMap::new(),
        named_images: BTreeMap::new(),
        named_builds: BTreeMap::new(),
        remotes: BTreeMap::new(),
        no_cache_stages: Vec::new(),
        network: strake_plan::Network::Default,
        extra_hosts: Vec::new(),
        rules: strake_stages::Rules::default(),
    };
    (request, diagnostics)
}

/// Reads the lines of a case's `request.txt`.
pub fn configure(request: &mut Request, lines: &str) {
    for line in lines.lines() {
        let (name, value) = line.split_once(' ').unwrap_or((line, ""));
        let pair = || value.split_once('=').map_or((value.to_owned(), None), |(key, value)| (key.to_owned(), Some(value.to_owned())));
        match name {
            "arg" => drop(request.build_args.insert(pair().0, pair().1)),
            "label" => drop(request.labels.insert(pair().0, pair().1.unwrap_or_default())),
            "target" => request.target = Some(value.to_owned()),
            "tag" => request.tags.push(value.to_owned()),
            "context" => drop(request.named_contexts.insert(value.to_owned(), context(value))),
            "image" => drop(request.named_images.insert(pair().0, pair().1.unwrap_or_default())),
            "no-cache-stage" => request.no_cache_stages.push(value.to_owned()),
            "network" => request.network = if value == "none" { strake_plan::Network::None } else { strake_plan::Network::Host },
            "ignore" => request.context.ignore.push(value.to_owned()),
            "no-cache" => request.no_cache = true,
            "allow" => (request.rules.host_network, request.rules.insecure) = (value.contains("network.host"), value.contains("security.insecure")),
            "ulimit" => {
                let limit = Some(pair().1.and_then(|value| value.parse().ok()).unwrap_or_default());
                request.rules.ulimits.push(strake_plan::Ulimit { name: pair().0, soft: limit, hard: limit });
            }
            other => panic!("request.txt: {other}"),
        }
    }
}

/// The plan of a Dockerfile that is right.
pub fn plan(text: &str) -> BuildPlan {
    let (request, diagnostics) = request(text);
    assert!(!diagnostics.iter().any(Diagnostic::is_error), "{diagnostics:?}");
    let (needed, _) = base_references(&request);
    let bases = all();
    assert!(needed.iter().all(|base| bases.contains_key(&base.key)), "{needed:?}");
    let (plan, diagnostics) = lower(&request, &bases);
    plan.unwrap_or_else(|| panic!("{diagnostics:?}"))
}
