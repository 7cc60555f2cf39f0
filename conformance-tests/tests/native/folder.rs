//! `kiln build DIR`: what of a folder is sent, and what its sender is told.

use std::{fs, os::unix::fs::symlink, path::Path};

use kiln_conformance_tests::{Engine, Kiln, Launch, kiln::base, registry};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{BUILDS, idle};

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// Sends it, on with these arguments.
async fn build(kiln: &Kiln, folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut all = vec!["build", folder.to_str().unwrap()];
    all.extend(arguments);
    kiln.run("devel", &all).await
}

/// A Dockerfile whose step succeeds where the context is just this, as `find` prints it.
fn expecting(base: &str, lines: &[&str]) -> String {
    let expected = lines.join("\\n");
    format!(
        "FROM {base}\nARG WORD=none\nWORKDIR /sent\nCOPY . .\nRUN printf '{expected}\\n' >/expected && \
         find . | sort >/found && cat /found && cmp /expected /found && test $WORD = done\n"
    )
}

#[tokio::test]
async fn a_folder_is_built_without_what_its_ignore_file_names() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let found = [".", "./Dockerfile", "./bin", "./bin/run", "./link", "./out", "./out/keep", "./away"];
    let mut found = found.map(str::to_owned).to_vec();
    found.push(format!("./{}", "long".repeat(40)));
    found.sort();
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    let dockerfile = expecting(&base("debian"), &found);
    let ignore = "# not these\n.dockerignore\n**/*.log\n/secret/\nout/*\n!out/keep\n";
    let sent = folder(&[
        ("Dockerfile", &dockerfile),
        (".dockerignore", ignore),
        ("bin/run", "#!/bin/sh\n"),
        ("bin/run.log", "no"),
        ("secret/key", "no"),
        ("out/keep", "yes"),
        ("out/other", "no"),
        (&"long".repeat(40), "a name that is longer than a header has room for"),
    ]);
    symlink("bin/run", sent.path().join("link")).unwrap();
    symlink("/etc/passwd", sent.path().join("away")).unwrap();
    let tag = format!("t{}", Uuid::new_v4().simple());
    let target = format!("devel:{tag}");
    let (status, out, err) = build(&kiln, sent.path(), &["--target", &target, "--build-arg", "WORD=done"]).await;
    assert_eq!(status, Some(0), "{out}{err}");
    let digest = registry::digest("devel", &tag).await.unwrap();
    assert!(out.lines().last().unwrap().ends_with(&format!("{target} {digest}")), "{out}");
}

#[tokio::test]
async fn a_dockerfile_elsewhere_comes_with_its_own_ignore_file_even_where_that_names_it() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let dockerfile = expecting(&base("debian"), &[".", "./.dockerignore", "./kept"]);
    let sent = folder(&[
        ("deploy/image", &dockerfile),
        ("deploy/image.dockerignore", "deploy\nleft\n"),
        (".dockerignore", "kept\n"),
        ("kept", "yes"),
        ("left", "no"),
    ]);
    let target = format!("devel:t{}", Uuid::new_v4().simple());
    let options = ["--target", target.as_str(), "-f", "./deploy/image", "--build-arg", "WORD=done", "--fresh"];
    let (status, out, err) = build(&kiln, sent.path(), &options).await;
    assert_eq!(status, Some(0), "{out}{err}");
}

#[tokio::test]
async fn what_can_not_be_sent_or_built_is_said_and_becomes_no_build() {
    let kiln = idle().await;
    let good = folder(&[("Dockerfile", "FROM scratch\n"), ("requirements.txt", "x\n")]);
    let large = folder(&[("Dockerfile", "FROM scratch\n")]);
    fs::File::create(large.path().join("large")).unwrap().set_len(64 << 20).unwrap();
    let without = folder(&[("readme", "")]);
    let unclear = folder(&[("Dockerfile", "FROM scratch\n"), (".dockerignore", "[\n")]);
    let bytes = folder(&[("Dockerfile", "FROM scratch\n")]);
    fs::write(bytes.path().join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff")), "").unwrap();
    let ours = ["--target", "devel:a"];
    for (sent, options, status, why) in [
        (&without, &ours[..], 2, "the archive has no file \"Dockerfile\""),
        (&unclear, &ours, 2, "ignore file"),
        (&bytes, &ours, 2, "is no UTF-8"),
        (&good, &["--target", "other:a"], 77, "target"),
        (&large, &["--target", "other:a"], 77, "target"),
        (&good, &["--target", "devel:a", "--source", "x"], 2, "--source is an option of a requirements file"),
        (&good, &["--target", "devel:a", "--kind", "go"], 2, "--kind is an option of a requirements file"),
        (&good, &["--target", "devel:a", "--platform", "amiga"], 2, "platform"),
        (&good, &["--target", "devel:a", "--build-arg", "WORD"], 2, "build-arg: NAME=VALUE"),
        (&good, &["--target", "devel:a", "--size", "vast"], 2, "size"),
    ] {
        let (got, out, err) = build(&kiln, sent.path(), options).await;
        assert_eq!((got, out.as_str()), (Some(status), ""), "{options:?}: {err}");
        assert!(err.contains(why), "{options:?}: {err}");
    }
    let file = good.path().join("requirements.txt");
    for (options, why) in [
        (&["--target", "devel:a"][..], "pass --source"),
        (&["--target", "devel:a", "--source", "x", "-f", "y"], "--dockerfile is an option of a folder"),
        (&["--target", "devel:a", "--source", "x", "--webhook", "http://nowhere.invalid/"], "webhook.url"),
    ] {
        let (got, _, err) = build(&kiln, &file, options).await;
        assert_eq!((got, err.contains(why)), (Some(2), true), "{err}");
    }
    let builds = kiln.client("devel").get(BUILDS).await.json();
    assert_eq!(builds["builds"].as_array().unwrap().len(), 0, "{builds:#}");
    assert_eq!(fs::read_dir(kiln.folder().join("data/contexts")).unwrap().count(), 0);

    // What is neither is left out, and nobody waits for its other end.
    mknodat(CWD, good.path().join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let (status, _, err) = build(&kiln, good.path(), &["--target", "devel:a", "--detach"]).await;
    assert_eq!((status, err.contains("pipe is no file")), (Some(0), true), "{err}");
}
