//! Images that are built here and run elsewhere: another cluster pulls what `apply` and the development loop have pushed, and nothing else.

use serde_json::Value;
use strake_tests::{World, binary, needs};

use crate::repositories::Server;

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
      containers: [{name: web, image: web}]
";

/// A cluster, and beside it another state directory that builds: all that both have is the network.
struct Site {
    world: World,
    builder: String,
    kubeconfig: String,
}

impl Site {
    fn new() -> Site {
        let world = World::new();
        world.serve();
        world.program("app/web/guestbook");
        world.write("app/web/Dockerfile", "FROM scratch\nCOPY guestbook /guestbook\nCOPY page /page\nENTRYPOINT [\"/guestbook\"]\nCMD [\"store\"]\n");
        world.write("app/web/page", "one");
        world.write("app/web.yaml", WEB);
        let builder = world.path("builder").display().to_string();
        let kubeconfig = world.root().join("cluster/kubeconfig").display().to_string();
        Site { world, builder, kubeconfig }
    }

    fn registry(&self) -> Server {
        let root = self.world.path("hub").display().to_string();
        Server::start(&self.world, &binary().display().to_string(), &["--root", &root, "registry", "serve", "--listen", "127.0.0.1:5000"], 5000)
    }

    /// From the other machine, so to say.
    fn elsewhere(&self, args: &[&str]) -> strake_tests::Ran {
        self.world.strake(&[&["--root", &self.builder], args, &["--kubeconfig", &self.kubeconfig]].concat())
    }

    fn pulls(&self, reference: &str) -> bool {
        let root = tempfile::tempdir().expect("a directory");
        self.world.strake(&["--root", &root.path().display().to_string(), "image", "pull", reference]).code == 0
    }

    fn image(&self) -> String {
        let text = self.world.strake(&["get", "deployment", "web", "-o", "json"]).ok().stdout;
        image_of(&serde_json::from_str(&text).expect("JSON"))
    }
}

fn image_of(deployment: &Value) -> String {
    deployment["spec"]["template"]["spec"]["containers"][0]["image"].as_str().expect("an image").to_owned()
}

#[test]
fn another_cluster_pulls_what_an_apply_has_pushed_by_the_digest_that_the_plan_has_shown() {
    needs!();
    let site = Site::new();
    let registry = site.registry();
    // No registry: said with what, where and what to do, before anything is built or sent.
    for command in ["apply", "plan", "diff"] {
        let refused = site.elsewhere(&[command, "app"]).fails(1, "no registry is named");
        for part in ["deployment/web", "runs web:latest", "app/web/Dockerfile:1", "app/web.yaml:1", "--push-to HOST", "`registry: HOST[/PATH]` in strake.yaml"]
        {
            assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
        }
    }
    assert!(!std::path::Path::new(&site.builder).join("cache/steps").exists(), "nothing was built");
    let there = site.world.kubectl(&["get", "deployments,secrets,leases", "-n", "default", "-o", "name"]).ok().stdout;
    assert_eq!(there, "", "nothing was changed");
    site.elsewhere(&["apply", "app", "--push-to", "https://localhost:5000"]).fails(2, "without a scheme");
    site.world.strake(&["apply", "app", "--push-to", "localhost:5000"]).fails(2, "strake's own cluster runs images from this machine's store");

    // The plan knows the digest, and the registry does not have it yet.
    let to = ["--push-to", "localhost:5000/team"];
    let planned = site.elsewhere(&[&["plan", "app", "-o", "json", "--out", "plan.json"], &to[..]].concat()).fails(2, "");
    let planned: Value = serde_json::from_str(&planned.stdout).expect("JSON");
    let planned = image_of(&planned["deploy"]["changes"][0]["object"]);
    assert!(planned.starts_with("localhost:5000/team/web:latest@sha256:"), "{planned}");
    assert!(!site.pulls(&planned), "nothing was pushed for a plan");
    // What was reviewed is applied: the plan that was kept knows the registry.
    let applied = site.elsewhere(&["apply", "plan.json"]).ok();
    assert!(applied.stderr.contains("localhost:5000/team/web"), "{}", applied.stderr);
    assert_eq!(site.image(), planned);
    assert!(site.pulls(&planned) && site.pulls("localhost:5000/team/web:latest"));
    assert!(site.world.strake(&["get", "pods"]).ok().stdout.contains("Running"), "it runs what it has pulled");

    // The project can say where.
    site.world.write("app/strake.yaml", "registry: localhost:5000/team\n");
    assert!(site.elsewhere(&["apply", "app"]).ok().stdout.contains("nothing to change"));
    assert!(site.elsewhere(&["plan", "app"]).ok().stdout.contains("1 object"));

    // A registry that does not take it keeps the cluster as it was.
    drop(registry);
    site.world.write("app/web/page", "two");
    let before = site.image();
    let refused = site.elsewhere(&["apply", "app"]);
    assert_eq!((refused.code, site.image()), (1, before), "{}", refused.all());
    assert!(refused.stderr.contains("localhost:5000"), "{}", refused.stderr);
    let registry = site.registry();
    site.elsewhere(&["up", "app"]).ok();
    assert!(site.image().starts_with("localhost:5000/team/web:latest@sha256:") && site.image() != planned);
    drop(registry);
    site.world.stop();
}
