//! The rows C1 to C21 of COPY and ADD, a test each, from a Dockerfile's text to the files of the image. (C19 is in `contexts.rs`, C20 in `repositories.rs`.)

use strake_tests::{Ran, World, needs};

/// A build context and what it becomes.
struct Case {
    world: World,
}

impl Case {
    /// Files of the context: a name that ends with `/` is a folder.
    fn new(files: &[(&str, &str)]) -> Case {
        let world = World::new();
        std::fs::create_dir(world.path("c")).expect("a folder");
        for (name, text) in files {
            match name.strip_suffix('/') {
                Some(name) => std::fs::create_dir_all(world.path("c").join(name)).expect("a folder"),
                None => drop(world.write(&format!("c/{name}"), text)),
            }
        }
        Case { world }
    }

    /// A script in the context.
    fn sh(&self, script: &str) -> &Case {
        self.world.run("sh", &["-ec", &format!("cd c; {script}")]).ok();
        self
    }

    fn build(&self, dockerfile: &str) -> Ran {
        self.world.write("Dockerfile", dockerfile);
        self.world.strake(&["build", "-f", "Dockerfile", "-o", "type=tar,dest=out.tar", "c"])
    }

    /// Every entry of the image as `mode owner name`, and ` -> target` for links.
    #[track_caller]
    fn gives<S: AsRef<str>>(&self, dockerfile: &str, expected: impl AsRef<[S]>) -> &Case {
        self.build(dockerfile).ok();
        let listed = self.world.run("tar", &["--numeric-owner", "-tvf", "out.tar"]).ok().stdout;
        let line = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {}", words[0], words[1], words[5..].join(" "))
        };
        let mut found: Vec<String> = listed.lines().map(line).collect();
        found.sort_by(|a, b| a.split(' ').nth(2).cmp(&b.split(' ').nth(2)));
        let expected: Vec<&str> = expected.as_ref().iter().map(AsRef::as_ref).collect();
        assert_eq!(found, expected, "{dockerfile}");
        self
    }

    #[track_caller]
    fn fails(&self, dockerfile: &str, said: &str) -> &Case {
        self.build(dockerfile).fails(1, said);
        self
    }

    /// A file's content in the last image.
    fn text(&self, name: &str) -> String {
        self.world.run("tar", &["-xOf", "out.tar", name]).ok().stdout
    }
}

const FILE: &str = "-rw-r--r-- 0/0";
const DIR: &str = "drwxr-xr-x 0/0";

macro_rules! lines {
    ($($kind:expr, $name:expr);* $(;)?) => { [$(format!("{} {}", $kind, $name)),*] };
}

#[test]
fn c01_sources_are_cleaned_as_if_the_context_were_all_there_is() {
    needs!("tar");
    let case = Case::new(&[("a", ""), ("d/b", "")]);
    for source in ["a", "/a", "../../a", "./d/../a", "a/"] {
        case.gives(&format!("FROM scratch\nCOPY {source} /x\n"), lines![FILE, "x"]);
    }
    case.gives("FROM scratch\nCOPY d/ /x\n", lines![DIR, "x/"; FILE, "x/b"]);
}

#[test]
fn c02_a_directory_gives_its_content_and_never_its_name() {
    needs!("tar");
    let case = Case::new(&[("one/a", ""), ("two/b", ""), ("two/s/c", "")]);
    case.gives("FROM scratch\nCOPY one /x\n", lines![DIR, "x/"; FILE, "x/a"]);
    case.gives("FROM scratch\nCOPY */ x/\n", lines![DIR, "x/"; FILE, "x/a"; FILE, "x/b"; DIR, "x/s/"; FILE, "x/s/c"]);
}

#[test]
fn c03_a_file_goes_into_a_directory_or_becomes_the_name() {
    needs!("tar");
    let case = Case::new(&[("a", ""), ("d/x", "")]);
    case.gives("FROM scratch\nCOPY a /n\n", lines![FILE, "n"]);
    case.gives("FROM scratch\nCOPY a /n/\n", lines![DIR, "n/"; FILE, "n/a"]);
    case.gives("FROM scratch\nCOPY d /n\nCOPY a /n\n", lines![DIR, "n/"; FILE, "n/a"; FILE, "n/x"]);
    case.gives("FROM scratch\nWORKDIR /w\nCOPY a .\n", lines![DIR, "w/"; FILE, "w/a"]);
}

#[test]
fn c04_several_sources_without_a_slash_become_one_file_with_a_warning() {
    needs!("tar");
    let case = Case::new(&[("a", "a"), ("b", "b")]);
    let ran = case.build("FROM scratch\nCOPY a b /x\n").ok();
    assert!(ran.stderr.contains("CopySeveralToOne") && case.text("x") == "b", "{}", ran.stderr);
    case.gives("FROM scratch\nCOPY a b /x/\n", lines![DIR, "x/"; FILE, "x/a"; FILE, "x/b"]);
}

#[test]
fn c05_parents_are_made_with_the_owner_and_octal_mode_that_were_given() {
    needs!("tar");
    let case = Case::new(&[("a", ""), ("d/s/f", "")]);
    case.sh("chmod 700 d; chmod 750 d/s");
    case.gives("FROM scratch\nUSER 9\nWORKDIR /w\nUSER 7\nCOPY a r/s/\n", lines!["drwxr-xr-x 9/9", "w/"; DIR, "w/r/"; DIR, "w/r/s/"; FILE, "w/r/s/a"]);
    case.gives("FROM scratch\nCOPY --chown=3:4 --chmod=711 a /p/q/\n", lines!["drwx--x--x 3/4", "p/"; "drwx--x--x 3/4", "p/q/"; "-rwx--x--x 3/4", "p/q/a"]);
    case.gives("FROM scratch\nCOPY --chmod=u=rwx,go= a /p/\n", lines![DIR, "p/"; "-rwx------ 0/0", "p/a"]);
    // The destination itself keeps what it is, what is nested takes the source's.
    let twice = "FROM scratch\nCOPY --chown=5:6 --chmod=755 d /t\nCOPY d /t\n";
    case.gives(twice, lines!["drwxr-xr-x 5/6", "t/"; "drwxr-x--- 0/0", "t/s/"; FILE, "t/s/f"]);
}

#[test]
fn c06_links_in_the_destination_are_followed_and_never_out() {
    needs!("tar");
    let case = Case::new(&[("a", ""), ("base/real/", "")]);
    case.sh("ln -s /real base/lnk; ln -s ../../../../real base/up; ln -s made base/dangling");
    let base = "FROM scratch\nCOPY base /\n";
    let with = |dest: &str| format!("{base}COPY a {dest}\n");
    let links = ["lrwxrwxrwx 0/0 dangling -> made", "lrwxrwxrwx 0/0 lnk -> /real", "lrwxrwxrwx 0/0 up -> ../../../../real"];
    for dest in ["/lnk/", "/lnk", "/up/a"] {
        let (dir, file) = (format!("{DIR} real/"), format!("{FILE} real/a"));
        case.gives(&with(dest), [links[0], links[1], &dir, &file, links[2]]);
    }
    let (dir, file) = (format!("{DIR} real/"), format!("{FILE} made"));
    case.gives(&with("/dangling"), [links[0], links[1], &file, &dir, links[2]]);
}

#[test]
fn c07_a_named_link_is_followed_and_one_in_a_tree_is_kept() {
    needs!("tar");
    let case = Case::new(&[("d/f", "")]);
    case.sh("ln -s d/f link; ln -s d dir; ln -s nowhere d/gone; ln -s /etc/passwd out");
    case.gives("FROM scratch\nCOPY link dir/f /x/\n", lines![DIR, "x/"; FILE, "x/f"; FILE, "x/link"]);
    case.gives("FROM scratch\nCOPY dir /x\n", lines![DIR, "x/"; FILE, "x/f"; "lrwxrwxrwx 0/0", "x/gone -> nowhere"]);
    case.fails("FROM scratch\nCOPY out /x\n", "`out` is not there");
}

#[test]
fn c08_wildcards_match_names_and_no_slash() {
    needs!("tar");
    let case = Case::new(&[("a.t", ""), (".b.t", ""), ("s/c.t", ""), ("s/u/d.t", ""), ("[x]", "")]);
    case.gives("FROM scratch\nCOPY *.t /x/\n", lines![DIR, "x/"; FILE, "x/.b.t"; FILE, "x/a.t"]);
    case.gives("FROM scratch\nCOPY ?/*.t s/[t-v]/d.t /x/\n", lines![DIR, "x/"; FILE, "x/c.t"; FILE, "x/d.t"]);
    case.gives("FROM scratch\nCOPY [[]x] /y\n", lines![FILE, "y"]);
    case.fails("FROM scratch\nCOPY [a /y\n", "syntax error in pattern");
}

#[test]
fn c09_a_wildcard_may_match_nothing_and_a_name_may_not() {
    needs!("tar");
    let case = Case::new(&[("a", ""), ("d/b", "")]);
    case.gives("FROM scratch\nCOPY requirements.tx[t] a /x/\n", lines![DIR, "x/"; FILE, "x/a"]);
    case.build("FROM scratch\nCOPY *.none /x/\n").ok();
    case.fails("FROM scratch\nCOPY none /x\n", "`none` is not there");
    case.fails("FROM scratch\nCOPY --parents d/none /x/\n", "`d/none` is not there");
}

#[test]
fn c10_kinds_that_do_not_fit_are_errors_and_files_replace_files() {
    needs!("tar");
    let case = Case::new(&[("f", "new"), ("d/f", ""), ("t/f/x", "")]);
    case.fails("FROM scratch\nCOPY f /x\nCOPY d /x\n", "it is not a directory");
    case.fails("FROM scratch\nCOPY t /x\nCOPY d /x\n", "cannot copy a file to `/x/f`: it is a directory");
    case.fails("FROM scratch\nCOPY f /x\nCOPY f /x/\n", "it is not a directory");
    // A hard link of what is replaced stays what it was; a link below the destination is replaced itself.
    case.sh("mkdir h; echo old > h/f; ln h/f h/g; ln -s g h/l; echo l > l");
    case.build("FROM scratch\nCOPY h /\nCOPY f l /\n").ok();
    assert_eq!((case.text("f"), case.text("g"), case.text("l")), ("new".into(), "old\n".into(), "l\n".into()));
}

#[test]
fn c11_owners_are_those_of_the_destination() {
    needs!("tar");
    let case = Case::new(&[("etc/passwd", "app:x:1000:1001::/:/\n"), ("etc/group", "staff:x:50:\n"), ("a", "")]);
    case.sh("chown 7:8 a");
    let owner = |flag: &str| {
        case.build(&format!("FROM scratch\nCOPY etc /etc\nCOPY {flag} a /a\n")).ok();
        let listed = case.world.run("tar", &["--numeric-owner", "-tvf", "out.tar", "a"]).ok().stdout;
        listed.split_whitespace().nth(1).expect("an owner").to_owned()
    };
    let table =
        [("", "0/0"), ("--chown=5", "5/5"), ("--chown=5:6", "5/6"), ("--chown=app", "1000/1001"), ("--chown=app:staff", "1000/50"), ("--chown=app:", "1000/0")];
    for (flag, expected) in
        table.into_iter().chain([("--chown=:staff", "0/50"), ("--chown=nosuch", "0/0"), ("--chown=1000:", "1000/0"), ("--chown=app:nosuch", "1000/1001")])
    {
        assert_eq!(owner(flag), expected, "{flag}");
    }
    case.fails("FROM scratch\nCOPY --chown=app a /a\n", "app");
    case.gives("FROM scratch AS s\nCOPY --chown=5:6 a /a\nFROM scratch\nCOPY --from=s /a /a\n", lines!["-rw-r--r-- 5/6", "a"]);
}

#[test]
fn c12_chmod_is_octal_or_symbolic_and_leaves_links_alone() {
    needs!("tar");
    let case = Case::new(&[("d/f", ""), ("d/s/g", "")]);
    case.sh("ln -s f d/l; chmod 4755 d/f");
    case.gives(
        "FROM scratch\nCOPY --chmod=0640 d /\n",
        lines!["-rw-r----- 0/0", "f"; "lrwxrwxrwx 0/0", "l -> f"; "drw-r----- 0/0", "s/"; "-rw-r----- 0/0", "s/g"],
    );
    case.gives("FROM scratch\nCOPY --chmod=a=rX,u+w d /\n", lines!["-rwxr-xr-x 0/0", "f"; "lrwxrwxrwx 0/0", "l -> f"; DIR, "s/"; FILE, "s/g"]);
    case.fails("FROM scratch\nCOPY --chmod=10000 d /\n", "invalid chmod parameter");
    case.fails("FROM scratch\nCOPY --chmod=u+q d /\n", "invalid chmod parameter");
}

#[test]
fn c13_modes_hard_links_and_special_files_are_kept() {
    needs!("tar", "mkfifo");
    let case = Case::new(&[("d/f", "x")]);
    case.sh("ln d/f d/g; mkfifo d/p; chmod 6755 d/f; mkdir d/t; chmod 1777 d/t; chown 3:3 d/f; chmod 6755 d/f");
    let expected = ["-rwsr-sr-x 0/0 f", "hrwsr-sr-x 0/0 g link to f", "prw-r--r-- 0/0 p", "drwxrwxrwt 0/0 t/"];
    case.gives("FROM scratch\nCOPY d /\n", expected);
    let between = expected.map(|line| line.replace("0/0", "5/6"));
    case.gives("FROM scratch AS s\nCOPY --chown=5:6 d /\nFROM scratch\nCOPY --from=s / /\n", between);
}

#[test]
fn c14_holes_stay_holes() {
    needs!("tar", "truncate");
    let case = Case::new(&[]);
    case.sh("truncate -s 64M sparse; printf end >> sparse");
    case.build("FROM scratch\nCOPY sparse /\n").ok();
    assert_eq!(case.world.run("sh", &["-c", "tar -xOf out.tar sparse | tail -c 3; tar -xOf out.tar sparse | wc -c"]).ok().stdout.trim(), "end67108867");
    // The layer in the store has them too.
    let blocks = case.world.run("sh", &["-c", "find root -name sparse -size +1M -printf '%b\\n' | sort -n | head -1"]).ok().stdout;
    assert!(blocks.trim().parse::<u64>().expect("a number") < 2048, "{blocks}");
}

#[test]
fn c15_from_names_a_stage_its_number_a_context_or_an_image() {
    needs!("tar");
    let case = Case::new(&[("a", ""), (".dockerignore", "ignored\n"), ("ignored", ""), ("d/ignored", "")]);
    let stages = "FROM scratch AS Build\nWORKDIR /w\nCOPY d /\n";
    for from in ["build", "BUILD", "0"] {
        case.gives(&format!("{stages}FROM scratch\nCOPY --from={from} ignored /x\n"), lines![FILE, "x"]);
    }
    case.fails("FROM scratch\nCOPY --from=1 a /\n", "there is no stage 1");
    case.fails("FROM scratch AS early\nCOPY --from=later a /\nFROM scratch AS later\nFROM early\n", "is defined later");
    case.fails("FROM scratch AS own\nCOPY --from=own a /\n", "circular dependency");
    case.fails("FROM scratch\nCOPY --from=$X a /\n", "--from");
}

#[test]
fn c16_parents_keeps_folders_with_what_they_are() {
    needs!("tar");
    let case = Case::new(&[("x/y/a", ""), ("x/z/b", ""), ("c", "")]);
    case.sh("chmod 711 x; chmod 750 x/y");
    case.gives(
        "FROM scratch\nCOPY --parents x/y/a c /o/\n",
        lines![DIR, "o/"; FILE, "o/c"; "drwx--x--x 0/0", "o/x/"; "drwxr-x--- 0/0", "o/x/y/"; FILE, "o/x/y/a"],
    );
    case.gives("FROM scratch\nCOPY --parents x/./y/a /o/\n", lines![DIR, "o/"; "drwxr-x--- 0/0", "o/y/"; FILE, "o/y/a"]);
    case.gives(
        "FROM scratch\nCOPY --parents **/[ab] /o/\n",
        lines![DIR, "o/"; "drwx--x--x 0/0", "o/x/"; "drwxr-x--- 0/0", "o/x/y/"; FILE, "o/x/y/a"; DIR, "o/x/z/"; FILE, "o/x/z/b"],
    );
}

#[test]
fn c17_exclude_leaves_out_of_files_and_of_the_key() {
    needs!("tar");
    let case = Case::new(&[("d/a.o", ""), ("d/a.c", ""), ("d/s/b.o", ""), ("d/s/keep.o", "")]);
    let dockerfile = "FROM scratch\nARG E=a.c\nCOPY --exclude=**/*.o --exclude=!**/keep.o --exclude=$E d /\n";
    case.gives(dockerfile, lines![FILE, "a.c"; DIR, "s/"; FILE, "s/keep.o"]);
    case.world.write("c/d/a.o", "changed");
    let again = case.world.strake(&["build", "--progress", "plain", "-f", "Dockerfile", "c"]).ok();
    assert!(again.stderr.contains("CACHED") && !again.stderr.contains(" DONE"), "{}", again.stderr);
}

#[test]
fn c18_add_unpacks_tars_by_their_content() {
    needs!("tar", "gzip", "bzip2", "xz", "zstd");
    let case = Case::new(&[("t/f", ""), ("t/d/g", "")]);
    case.sh("chmod 700 t; chmod 640 t/f; tar --numeric-owner --owner=3 --group=4 -C t -cf plain .; for c in 'gzip -c' 'bzip2 -c' 'xz -c' 'zstd -qc'; do $c plain > packed.${c%% *}; done; : > empty.tar.gz; gzip -c t/f > text.gz");
    let inside = lines!["drwxr-xr-x 3/4", "d/"; "-rw-r--r-- 3/4", "d/g"; "-rw-r----- 3/4", "f"];
    for name in ["plain", "packed.gzip", "packed.bzip2", "packed.xz", "packed.zstd"] {
        case.gives(&format!("FROM scratch\nADD --chmod=777 {name} /\n"), &inside);
    }
    case.gives(
        "FROM scratch\nADD --chown=8:9 plain /x\n",
        lines!["drwxr-xr-x 8/9", "x/"; "drwxr-xr-x 8/9", "x/d/"; "-rw-r--r-- 8/9", "x/d/g"; "-rw-r----- 8/9", "x/f"],
    );
    case.gives(
        "FROM scratch\nADD --unpack=false plain empty.tar.gz text.gz /x/\n",
        lines![DIR, "x/"; FILE, "x/empty.tar.gz"; FILE, "x/plain"; FILE, "x/text.gz"],
    );
    case.gives("FROM scratch\nCOPY plain /x\n", lines![FILE, "x"]);
}

#[test]
fn c21_one_instruction_is_one_layer_whatever_its_sources() {
    needs!("tar", "python3");
    let case = Case::new(&[("a", ""), ("b", ""), ("t/x", "")]);
    case.sh("tar -C t -cf t.tar x");
    case.build("FROM scratch\nADD a b t.tar /x/\nCOPY a b <<ONE <<TWO /y/\none\nONE\ntwo\nTWO\n").ok();
    let inspected = case.world.strake(&["build", "-q", "-f", "Dockerfile", "--metadata-file", "meta", "-t", "x", "c"]).ok();
    assert!(inspected.stdout.starts_with("sha256:"));
    let config: serde_json::Value = serde_json::from_str(&case.world.strake(&["image", "inspect", "x"]).ok().stdout).expect("JSON");
    let text = config.to_string();
    assert_eq!(text.matches("# buildkit").count(), 2, "{text}");
    case.gives("FROM scratch\nCOPY a b <<ONE <<TWO /y/\none\nONE\ntwo\nTWO\n", lines![DIR, "y/"; FILE, "y/ONE"; FILE, "y/TWO"; FILE, "y/a"; FILE, "y/b"]);
}
