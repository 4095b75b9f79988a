//! `strake ci`, by the workflows of examples/ci as they are, against a bare repository; and what users of other tools complain about in pipelines.

use std::path::PathBuf;
use std::process::Stdio;

use serde_json::Value;
use strake_tests::{Ran, World, binary, needs, repository};

use crate::repositories::{Server, sh};

/// A workflow of examples/ci.
fn example(name: &str) -> Value {
    let text = std::fs::read_to_string(repository().join("examples/ci").join(name)).expect("an example");
    serde_yaml::from_str(&text).expect("YAML")
}

/// The one job, with its variables and the lines that it runs.
struct Workflow {
    variables: Vec<(String, String)>,
    lines: Vec<String>,
}

fn pairs(value: &Value) -> Vec<(String, String)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned())).collect()
}

fn github() -> Workflow {
    let job = example("github.yaml")["jobs"]["strake"].clone();
    let steps = job["steps"].as_array().expect("steps");
    assert!(steps.iter().any(|step| step["with"]["fetch-depth"] == 0), "a plan needs history");
    Workflow { variables: pairs(&job["env"]), lines: steps.iter().filter_map(|step| Some(step["run"].as_str()?.to_owned())).collect() }
}

fn gitlab() -> Workflow {
    let job = example("gitlab.yaml")["strake"].clone();
    assert_eq!(job["variables"]["GIT_DEPTH"], "0", "a plan needs history");
    let lines = job["script"].as_array().expect("a script").iter().map(|line| line.as_str().expect("a line").to_owned());
    Workflow { lines: lines.collect(), variables: pairs(&job["variables"]) }
}

impl Workflow {
    /// Runs it in a fresh clone of a branch, as a runner does.
    fn run(&self, world: &World, branch: &str, variables: &[(&str, &str)]) -> Ran {
        sh(world, &format!("rm -rf clone; git clone -q --branch {branch} served/shop.git clone"));
        assert!(!self.lines.is_empty());
        let mut command = world.command("sh");
        let script = format!("cd clone && set -e\n{}", self.lines.join("\n"));
        command.args(["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let tools = binary().parent().expect("a folder").to_owned();
        let path = std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&std::env::var_os("PATH").expect("a path")))).expect("a path");
        command.env("PATH", path).env("STRAKE_ROOT", world.root());
        command.envs(self.variables.iter().map(|(name, value)| (name, value))).envs(variables.iter().copied());
        let output = command.output().expect("a shell");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { stdout: text(&output.stdout), stderr: text(&output.stderr), code: output.status.code().unwrap_or(-1) }
    }
}

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: web, image: web, resources: {requests: {cpu: 1m, memory: 8Mi}}}]
";

fn settings(colour: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{colour: {colour}}}\n")
}

/// A bare repository with the shop on main, and a work tree of it in `work`.
fn shop(world: &World) {
    sh(
        world,
        "git init -q --bare -b main served/shop.git; git clone -q served/shop.git work 2>/dev/null; cd work; git checkout -q -b main; git config user.name t; git config user.email t@example.org",
    );
    world.program("work/deploy/web/guestbook");
    world.write("work/deploy/web/Dockerfile", "FROM scratch\nCOPY guestbook /guestbook\nCOPY page /page\nENTRYPOINT [\"/guestbook\"]\nCMD [\"store\"]\n");
    world.write("work/deploy/web/page", "one");
    world.write("work/deploy/web.yaml", WEB);
    world.write("work/deploy/settings.yaml", settings("red"));
    commit(world, "one");
}

fn commit(world: &World, message: &str) -> String {
    sh(world, &format!("cd work; git add -A; git commit -qm '{message}'; git push -q origin HEAD; git rev-parse HEAD"))
}

fn get(world: &World, kind: &str, name: &str) -> Value {
    serde_json::from_str(&world.strake(&["get", kind, name, "-o", "json"]).ok().stdout).expect("JSON")
}

/// What can tell that the cluster was touched: every object with its version.
fn everything(world: &World) -> String {
    let of = |kind: &str| world.strake(&["get", kind, "-A", "-o", "json"]).ok().stdout;
    let versions = |text: &str| {
        let list: Value = serde_json::from_str(text).expect("JSON");
        let each = list["items"].as_array().cloned().unwrap_or_default();
        let id = |item: &Value| format!("{}={} ", item["metadata"]["name"], item["metadata"]["resourceVersion"]);
        each.iter().map(id).collect::<String>()
    };
    ["configmaps", "deployments", "secrets", "services"].iter().map(|kind| versions(&of(kind))).collect()
}

fn image(world: &World) -> String {
    get(world, "deployment", "web")["spec"]["template"]["spec"]["containers"][0]["image"].as_str().expect("an image").to_owned()
}

/// A branch, its merge and the merge's revert, as `service` runs them: (for a pull request, for main).
fn branch_merge_and_revert(workflow: &Workflow, pull: &[(&str, &str)], main: &[(&str, &str)], summary: &str) {
    let world = World::new();
    world.serve();
    let root = world.path("hub").display().to_string();
    let _registry = Server::start(&world, &binary().display().to_string(), &["--root", &root, "registry", "serve", "--listen", "127.0.0.1:5000"], 5000);
    shop(&world);
    let first = workflow.run(&world, "main", main).ok();
    assert!(first.stderr.contains("wrote the build cache localhost:5000/deploy-cache"), "{}", first.all());
    assert_eq!(get(&world, "configmap", "settings")["data"]["colour"], "red");
    let before = (everything(&world), image(&world));
    let told = || std::fs::read_to_string(world.path(summary)).expect("a summary");
    assert!(told().contains("branch main applied") && told().contains("| web:latest | `sha256:"), "{}", told());

    // The branch: what it changes is told, and nothing is changed.
    let _ = std::fs::remove_file(world.path(summary));
    sh(&world, "cd work; git checkout -q -b feature");
    world.write("work/deploy/settings.yaml", settings("blue"));
    world.write("work/deploy/web/page", "two");
    world.write("work/deploy/web.yaml", WEB.replace("replicas: 1", "replicas: 2"));
    commit(&world, "two");
    let ran = workflow.run(&world, "feature", pull).ok();
    assert_eq!((everything(&world), image(&world)), before, "a plan touches nothing: {}", ran.all());
    let digests = [format!("- spec.template.spec.containers[web].image: \"{}\"", before.1), "+ spec.template.spec.containers[web].image: \"".to_owned()];
    let parts = ["pull request #7 planned", "configmap/settings", "deployment/web", "spec.replicas", "data.colour", "| web:latest | `sha256:"];
    for part in parts.into_iter().chain(digests.iter().map(String::as_str)) {
        assert!(told().contains(part), "{part} in {}", told());
    }
    assert!(!ran.stderr.contains("wrote the build cache"), "a pull request does not decide what others build: {}", ran.all());

    // The merge: it is applied, with the new image.
    sh(&world, "cd work; git checkout -q main; git merge -q --no-ff -m merge feature; git push -q origin main");
    workflow.run(&world, "main", main).ok();
    assert_eq!(get(&world, "configmap", "settings")["data"]["colour"], "blue");
    assert_eq!(get(&world, "deployment", "web")["spec"]["replicas"], 2);
    assert_ne!(image(&world), before.1);

    // The revert: back to where it was, to the digest.
    sh(&world, "cd work; git revert --no-edit -m 1 HEAD >/dev/null; git push -q origin main");
    workflow.run(&world, "main", main).ok();
    assert_eq!(get(&world, "configmap", "settings")["data"]["colour"], "red");
    assert_eq!(get(&world, "deployment", "web")["spec"]["replicas"], 1);
    assert_eq!(image(&world), before.1);
    // What was pushed is there, by the manifests' tag.
    world.strake(&["--root", &world.path("puller").display().to_string(), "image", "pull", "localhost:5000/web:latest"]).ok();
    drop(_registry);
    world.stop();
}

#[test]
fn complaint_17_the_github_workflow_plans_a_branch_applies_its_merge_and_takes_a_revert_back() {
    needs!("git");
    let event = r#"{"number": 7, "repository": {"default_branch": "main"}}"#;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), event).expect("written");
    let event: PathBuf = file.path().to_owned();
    let event = event.display().to_string();
    let both = [("GITHUB_ACTIONS", "true"), ("GITHUB_EVENT_PATH", event.as_str()), ("GITHUB_STEP_SUMMARY", "../summary.md"), ("GITHUB_OUTPUT", "../outputs")];
    let pull =
        [&both[..], &[("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_REF", "refs/pull/7/merge"), ("GITHUB_BASE_REF", "main"), ("GITHUB_SHA", "feature0")]]
            .concat();
    let main = [&both[..], &[("GITHUB_EVENT_NAME", "push"), ("GITHUB_REF_NAME", "main"), ("GITHUB_REF_TYPE", "branch")]].concat();
    branch_merge_and_revert(&github(), &pull, &main, "summary.md");
}

#[test]
fn the_gitlab_pipeline_does_the_same() {
    needs!("git");
    let both = [("GITLAB_CI", "true"), ("CI_DEFAULT_BRANCH", "main")];
    let pull = [&both[..], &[("CI_MERGE_REQUEST_IID", "7"), ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"), ("CI_COMMIT_SHA", "feature0")]].concat();
    let main = [&both[..], &[("CI_COMMIT_BRANCH", "main")]].concat();
    branch_merge_and_revert(&gitlab(), &pull, &main, "clone/plan.md");
}

#[test]
fn another_cluster_runs_what_was_pushed_and_a_rehearsal_changes_nothing() {
    needs!("git");
    let world = World::new();
    world.serve();
    let root = world.path("hub").display().to_string();
    let registry = Server::start(&world, &binary().display().to_string(), &["--root", &root, "registry", "serve", "--listen", "127.0.0.1:5000"], 5000);
    shop(&world);
    // To strake a cluster that is named is another one: it gets what it can pull.
    let kubeconfig = world.root().join("cluster/kubeconfig").display().to_string();
    let args = ["ci", "work/deploy", "--registry", "localhost:5000/team", "--kubeconfig", &kubeconfig, "--apply", "-o", "json"];
    let rehearsed = world.strake(&[&args[..], &["--dry-run"]].concat()).ok();
    let data: Value = serde_json::from_str(&rehearsed.stdout).expect("JSON alone");
    assert_eq!((&data["mode"], &data["changes"], &data["applied"]), (&"plan".into(), &true.into(), &Value::Null));
    world.strake(&["get", "deployment", "web"]).fails(1, "not found");
    let data: Value = serde_json::from_str(&world.strake(&args).ok().stdout).expect("JSON alone");
    assert_eq!(data["applied"]["created"].as_array().map(Vec::len), Some(2), "{data}");
    let pushed = data["images"][0]["digest"].as_str().expect("a digest").to_owned();
    assert_eq!(image(&world), format!("localhost:5000/team/web:latest@{pushed}"));
    assert!(world.strake(&["get", "pods"]).ok().stdout.contains("Running"));
    assert_eq!(serde_json::from_str::<Value>(&world.strake(&args).ok().stdout).expect("JSON")["changes"], false, "the same again");
    // The cluster that the project's own file names for an environment is not passed over for strake's own.
    world.write("work/deploy/strake.yaml", "environments:\n  prod: {context: production}\n");
    world.write(".kube/config", std::fs::read_to_string(&kubeconfig).expect("a kubeconfig"));
    let missing = world.strake(&["ci", "work/deploy", "--env", "prod", "--registry", "localhost:5000/team", "--apply"]);
    assert!(missing.code != 0 && missing.all().contains("production"), "{}: {}", missing.code, missing.all());
    drop(registry);
    world.stop();
}

#[test]
fn a_pull_request_is_compared_by_the_digests_of_what_both_sides_build() {
    needs!("git");
    let world = World::new();
    shop(&world);
    let run = |branch: &str| {
        sh(&world, &format!("rm -rf clone; git clone -q --branch {branch} served/shop.git clone"));
        let mut command = world.strake_command(&["ci", "clone/deploy", "-o", "json"]);
        command.envs([("GITHUB_ACTIONS", "true"), ("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_BASE_REF", "main")]);
        let output = command.output().expect("strake runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ran = Ran { stdout: text(&output.stdout), stderr: text(&output.stderr), code: output.status.code().unwrap_or(-1) }.ok();
        serde_json::from_str::<Value>(&ran.stdout).expect("JSON alone")
    };
    // What changes of the image, before and after.
    let images = |told: &Value| {
        let fields = told["review"]["changes"].as_array().into_iter().flatten().flat_map(|change| change["fields"].as_array().cloned().unwrap_or_default());
        let image = fields.filter(|field| field["path"].as_str().is_some_and(|path| path.ends_with(".image")));
        image.map(|field| (field["before"].as_str().unwrap_or_default().to_owned(), field["after"].as_str().unwrap_or_default().to_owned())).collect::<Vec<_>>()
    };
    // Files of a checkout have the modes of a checkout on both sides, whatever the repository's attributes leave out of archives.
    world.write("work/deploy/web/tool", "#!/bin/sh\n");
    world.write("work/deploy/web/Dockerfile", "FROM scratch\nCOPY . /\nENTRYPOINT [\"/guestbook\"]\nCMD [\"store\"]\n");
    world.write("work/.gitattributes", "page export-ignore\n");
    sh(&world, "chmod 755 work/deploy/web/tool");
    commit(&world, "more files");
    // Nothing of the image changes, and that is known.
    sh(&world, "cd work; git checkout -q -b colour");
    world.write("work/deploy/settings.yaml", settings("blue"));
    commit(&world, "colour");
    let told = run("colour");
    assert_eq!((images(&told), &told["review"]["complete"]), (Vec::new(), &Value::Bool(true)), "{:#}", told["review"]);
    assert!(told["review"].to_string().contains("data.colour"), "{:#}", told["review"]);
    // It does, and both are told.
    sh(&world, "cd work; git checkout -q main; git checkout -q -b page");
    world.write("work/deploy/web/page", "two");
    commit(&world, "page");
    let told = run("page");
    let found = images(&told);
    assert_eq!(found.len(), 1, "{:#}", told["review"]);
    for image in [&found[0].0, &found[0].1] {
        assert!(image.starts_with("docker.io/library/web:latest@sha256:") || image.starts_with("web:latest@sha256:"), "{image}");
    }
    assert_ne!(found[0].0, found[0].1);
    assert_eq!((&told["review"]["complete"], told["review"]["warnings"].to_string().contains("unknown-image")), (&Value::Bool(true), false));
    // A base that cannot be built is unknown by name, and what mends it is reviewed all the same.
    sh(&world, "cd work; git checkout -q main");
    world.write("work/deploy/web/Dockerfile", "FROM scratch\nCOPY nothing-of-that-name /x\nENTRYPOINT [\"/guestbook\"]\n");
    commit(&world, "broken");
    sh(&world, "cd work; git checkout -q -b mend");
    world.write("work/deploy/web/Dockerfile", "FROM scratch\nCOPY guestbook /guestbook\nENTRYPOINT [\"/guestbook\"]\nCMD [\"store\"]\n");
    commit(&world, "mended");
    let told = run("mend");
    let warnings = told["review"]["warnings"].as_array().expect("a list").clone();
    let unknown = warnings.iter().find(|warning| warning["code"] == "unknown-image").unwrap_or_else(|| panic!("{:#}", told["review"]));
    assert!(unknown["message"].as_str().is_some_and(|text| text.contains("what web:latest was") && text.contains("its build failed")), "{unknown}");
    assert_eq!(told["review"]["complete"], false);
    let found = images(&told);
    assert!(found.len() == 1 && found[0].0.contains("unknown") && found[0].1.contains("@sha256:"), "{found:?}");
    world.nothing_left();
}

#[test]
fn findings_and_failures_reach_the_service_in_its_own_form() {
    needs!("git");
    let world = World::new();
    shop(&world);
    world.write("work/deploy/settings.yaml", settings("red").replace("\ndata:", "\ndta:"));
    let run = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = world.strake_command(&[&["ci", "work/deploy"], args].concat());
        let output = command.envs(variables.iter().copied()).output().expect("strake runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { stdout: text(&output.stdout), stderr: text(&output.stderr), code: output.status.code().unwrap_or(-1) }
    };
    let summary = world.path("summary.md").display().to_string();
    let hub = [("GITHUB_ACTIONS", "true"), ("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_BASE_REF", "main"), ("GITHUB_STEP_SUMMARY", summary.as_str())];
    let broken = run(&[], &hub).fails(1, "unknown-field");
    assert!(broken.stdout.contains("::error file=work/deploy/settings.yaml,line=4,col=1,"), "{}", broken.stdout);
    let told = std::fs::read_to_string(&summary).expect("a summary");
    assert!(told.contains("❌ strake: a pull request failed") && told.contains("work/deploy/settings.yaml:4"), "{told}");
    // For programs: one JSON document, and nothing else on stdout.
    let data: Value = serde_json::from_str(&run(&["-o", "json"], &hub).fails(1, "").stdout).expect("JSON alone");
    assert_eq!((&data["provider"], &data["mode"], &data["exitCode"]), (&"github".into(), &"plan".into(), &1.into()));
    let unknown = data["findings"].as_array().expect("a list").iter().find(|finding| finding["code"] == "unknown-field").expect("the finding");
    assert_eq!(unknown["place"]["line"], 4);
    // GitLab's report, also when all is well.
    let quality = world.path("quality.json").display().to_string();
    let lab = [("GITLAB_CI", "true"), ("CI_COMMIT_BRANCH", "feature")];
    run(&["--code-quality", &quality], &lab).fails(1, "");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&quality).expect("a report")).expect("JSON");
    let found = report.as_array().expect("a list").iter().find(|finding| finding["check_name"] == "unknown-field").expect("the finding");
    assert_eq!(found["location"], serde_json::json!({"path": "work/deploy/settings.yaml", "lines": {"begin": 4}}));

    // A base that is broken does not keep its mend from being reviewed; a base that is not there is said with what to do.
    commit(&world, "broken");
    sh(&world, "cd work; git checkout -q -b mend");
    world.write("work/deploy/settings.yaml", settings("red"));
    commit(&world, "mended");
    let mended = run(&["--detailed-exitcode", "--no-push"], &hub);
    assert_eq!(mended.code, 2, "{}", mended.all());
    assert!(mended.stderr.contains("cannot be compiled") && mended.stdout.contains("configmap/settings"), "{}", mended.all());
    run(&[], &[("GITHUB_ACTIONS", "true"), ("GITHUB_EVENT_NAME", "pull_request"), ("GITHUB_BASE_REF", "elsewhere")]).fails(1, "fetch-depth: 0");
    run(&["--against", "nowhere"], &[]).fails(1, "no such revision");
    run(&["--registry", "https://x.example"], &[]).fails(2, "without a scheme");

    // A pull request reads nothing of the runner's own files.
    world.write("outside", "FROM a-line-of-the-runner\n");
    world.write("work/deploy/strake.yaml", "images: {web: {dockerfile: ../../outside}}\n");
    let refused = run(&["--no-push"], &hub).fails(1, "leads out of the repository");
    assert!(!refused.all().contains("a-line-of-the-runner"), "{}", refused.all());
}

#[test]
fn secrets_are_masked_for_later_steps_and_in_all_that_is_told() {
    needs!("git");
    let world = World::new();
    world.write("app/secret.yaml", include_str!("sealed/secret.yaml"));
    let mut command = world.strake_command(&["ci", "app"]);
    command.env("SOPS_AGE_KEY", include_str!("sealed/key.txt")).envs([
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_STEP_SUMMARY", "summary.md"),
        ("GITHUB_EVENT_NAME", "push"),
    ]);
    let output = command.output().expect("strake runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("::add-mask::correct-horse-battery\n"), "{text}");
    let rest: String = text.lines().filter(|line| !line.starts_with("::add-mask::")).collect();
    assert!(!rest.contains("correct-horse") && !String::from_utf8_lossy(&output.stderr).contains("correct-horse"));
    assert!(!std::fs::read_to_string(world.path("summary.md")).expect("a summary").contains("correct-horse"));
}

#[test]
fn complaint_04_a_comparison_shows_deletions_hides_secrets_and_says_by_its_code_how_it_went() {
    needs!();
    let world = World::new();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: word}\nstringData: {word: hunter2-hunter2}\n";
    world.write("app/a.yaml", format!("{}---\n{secret}", settings("red")));
    world.write("app/gone.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gone}\n");
    world.serve();
    for command in ["plan", "diff"] {
        let all = world.strake(&[command, "app"]).fails(2, "");
        assert!(!all.all().contains("hunter2"), "{}", all.all());
    }
    world.strake(&["apply", "app"]).ok();
    std::fs::remove_file(world.path("app/gone.yaml")).expect("removed");
    world.write("app/a.yaml", format!("{}---\n{}", settings("red"), secret.replace("hunter2-hunter2", "hunter3-hunter3")));
    for command in ["plan", "diff"] {
        let ran = world.strake(&[command, "app"]).fails(2, "");
        assert!(ran.stdout.contains("- delete") && ran.stdout.contains("configmap/gone") && ran.stdout.contains("secret/word"), "{}", ran.all());
        let json = world.strake(&[command, "app", "-o", "json"]).fails(2, "");
        assert!(![ran.all(), json.all()].concat().contains("hunter"), "{}", json.all());
    }
    world.strake(&["apply", "app"]).ok();
    for command in ["plan", "diff"] {
        world.strake(&[command, "app"]).ok();
        world.strake(&[command, "nowhere"]).fails(1, "no such file");
        world.strake(&[command, "app", "--odd"]).fails(2, "unexpected argument");
    }
    world.stop();
}

#[test]
fn complaint_07_a_mistake_is_shown_with_file_and_line_of_the_overlay_and_of_its_base() {
    needs!();
    let world = World::new();
    world.write("base/web.yaml", WEB);
    world.write("base/kustomization.yaml", "resources: [web.yaml]\n");
    world.write("prod/patch.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: many\n");
    world.write("prod/kustomization.yaml", "resources: [../base]\npatches: [{path: patch.yaml}]\n");
    let ran = world.strake(&["check", "prod"]).fails(1, "--> prod/patch.yaml:5:13");
    assert!(ran.stderr.contains("base/web.yaml:5:13") && ran.stderr.contains("in place of this one"), "{}", ran.stderr);
    let json: Value = serde_json::from_str(&world.strake(&["check", "prod", "-o", "json"]).fails(1, "").stdout).expect("JSON");
    let finding = json.as_array().expect("a list").iter().find(|finding| finding["severity"] == "error").expect("an error");
    assert_eq!((&finding["place"]["file"], &finding["place"]["line"]), (&"prod/patch.yaml".into(), &5.into()));
    assert_eq!((&finding["related"][0]["place"]["file"], &finding["related"][0]["place"]["line"]), (&"base/web.yaml".into(), &5.into()));
}

#[test]
fn complaint_08_what_a_server_would_refuse_is_found_without_any() {
    needs!();
    let world = World::new();
    let rows = [
        ("metadata: {name: web}\nspec:\n  replicas: 1", "metadata: {name: Web_1}\nspec:\n  replicas: 1", "Web_1"),
        ("replicas: 1", "replicas: -1", "replicas"),
        ("labels: {app: web}", "labels: {app: \"not a label\"}", "not a label"),
        ("matchLabels: {app: web}", "matchLabels: {app: other}", "selector"),
        ("requests: {cpu: 1m,", "limits: {cpu: 1m}, requests: {cpu: 2m,", "cpu"),
        ("name: web, image: web,", "name: web, image: web, ports: [{containerPort: 70000}],", "containerPort"),
        ("name: web, image: web,", "name: web, image: web, volumeMounts: [{name: none, mountPath: /x}],", "none"),
    ];
    for (written, wrong, expected) in rows {
        assert!(WEB.contains(written), "{written}");
        world.write("app/web.yaml", WEB.replace(written, wrong));
        // Nothing listens: there is no cluster, and no network either.
        let ran = world.strake(&["check", "app", "--offline"]).fails(1, "app/web.yaml:");
        assert!(ran.stderr.contains(expected), "{expected}: {}", ran.stderr);
    }
    world.write("app/web.yaml", WEB);
    world.strake(&["check", "app", "--offline"]).ok();
}

#[test]
fn complaint_20_what_is_not_supported_is_an_error_and_never_left_out() {
    needs!();
    let world = World::new();
    let rows = [
        ("apiVersion: example.org/v1\nkind: Gadget\nmetadata: {name: a}\n", "unknown-kind"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nimutable: true\n", "unknown-field"),
        ("apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: a}\n", "removed-version"),
        ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nmetadata: {name: b}\n", "yaml-duplicate-key"),
    ];
    for (text, code) in rows {
        world.write("app/a.yaml", text);
        world.strake(&["check", "app"]).fails(1, &format!("error[{code}]"));
        world.strake(&["plan", "app"]).fails(1, &format!("error[{code}]"));
    }
    std::fs::remove_file(world.path("app/a.yaml")).expect("removed");
    world.write("k/kustomization.yaml", "helmCharts: [{name: x, repo: https://x.example}]\n");
    world.strake(&["check", "k"]).fails(1, "error[kustomize-unsupported]");
    world.write("b/Dockerfile", "FROM scratch\nRUN --mount=type=odd,target=/x true\n");
    world.strake(&["build", "b"]).fails(1, "odd");
}
