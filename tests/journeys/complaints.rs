//! What users of other tools complain of, as far as no other file has it: README.md beside this file says which test answers which complaint.

use strake_tests::{World, needs};

fn named(kind: &str, name: &str, more: &str) -> String {
    format!("---\napiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\n{more}")
}

/// Files in the worst order: what is needed comes last by name.
#[test]
fn complaint_06_one_apply_is_enough_whatever_the_order_of_the_files() {
    needs!("busybox");
    let world = World::with_busybox();
    let pods = "    metadata: {labels: {app: web}}\n    spec:\n      serviceAccountName: robot\n      terminationGracePeriodSeconds: 0\n      containers:\n        - name: web\n          image: busybox:1\n          command: [sh, -c, 'echo $WORD; sleep 3600']\n          envFrom: [{configMapRef: {name: words}}, {secretRef: {name: token}}]\n";
    let web = format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: shop}}\nspec:\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n{pods}"
    );
    world.write("app/a-web.yaml", web);
    world.write("app/b-words.yaml", named("ConfigMap", "words", "data: {WORD: hello}\n"));
    world.write("app/c-token.yaml", named("Secret", "token", "stringData: {TOKEN: t}\n"));
    world.write("app/d-robot.yaml", named("ServiceAccount", "robot", ""));
    world.write("app/z-shop.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n");
    let ran = world.strake(&["apply", "app", "--timeout", "120"]).ok();
    assert_eq!(world.strake(&["logs", "-n", "shop", "deployment/web"]).ok().stdout, "hello\n", "{}", ran.all());
    // No pod was begun in vain: nothing failed because something was not there yet.
    let events = world.strake(&["get", "events", "-n", "shop", "-o", "json"]).ok().stdout;
    assert!(!events.contains("\"Warning\""), "{events}");
    world.strake(&["plan", "app"]).ok();
    world.stop();
}

/// The builder and the node have one store: an image is there the moment it is built, under its name, and no layer of it is there twice.
#[test]
fn complaint_15_what_is_built_runs_without_a_registry_and_without_a_copy() {
    needs!("busybox");
    let world = World::with_busybox();
    world.write("app/Dockerfile", "FROM busybox:1\nRUN echo local > /word\nCMD [\"sh\", \"-c\", \"cat /word; sleep 3600\"]\n");
    world.strake(&["build", "-t", "mine:dev", "app"]).ok();
    let kept = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(world.root().join(folder)).expect("a folder of the store");
        let mut names: Vec<String> = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    };
    let before = (kept("snapshots"), kept("blobs/sha256"));
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers: [{name: c, image: 'mine:dev', imagePullPolicy: Never}]\n";
    world.apply("pod", pod).ok();
    assert_eq!(world.strake(&["logs", "p"]).ok().stdout, "local\n");
    assert_eq!((kept("snapshots"), kept("blobs/sha256")), before, "running it has written nothing into the store");
    // Built again under the same name: the new content runs, and no tag has to be invented for it.
    world.write("app/Dockerfile", "FROM busybox:1\nRUN echo newer > /word\nCMD [\"sh\", \"-c\", \"cat /word; sleep 3600\"]\n");
    world.strake(&["build", "-t", "mine:dev", "app"]).ok();
    world.strake(&["delete", "pod", "p"]).ok();
    world.apply("pod", pod).ok();
    assert_eq!(world.strake(&["logs", "p"]).ok().stdout, "newer\n");
    world.stop();
}
