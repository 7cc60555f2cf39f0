//! Archives as a client makes them: files in a folder, packed by GNU tar.

use std::{fs, path::Path, process::Command};

use aws_lc_rs::hmac;
use kiln_conformance_tests::engine;
use serde_json::{Value, json};
use uuid::Uuid;

/// An archive, and where its image goes.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) bytes: Vec<u8>,
    /// The repository.
    pub(crate) repository: String,
    /// The tag.
    pub(crate) tag: String,
}

impl Archive {
    /// A context with this Dockerfile and a file `hello`; the image is a new one.
    pub(crate) fn of(dockerfile: &str) -> Self {
        Self::asking(dockerfile, &json!({}), &[])
    }

    /// The same for this repository.
    pub(crate) fn at(repository: &str, dockerfile: &str) -> Self {
        Self::made(repository, dockerfile, &json!({}), &[])
    }

    /// The same, with more in its configuration, and more files.
    pub(crate) fn asking(dockerfile: &str, more: &Value, files: &[(&str, &str)]) -> Self {
        Self::made("Functions/Hello", dockerfile, more, files)
    }

    fn made(repository: &str, dockerfile: &str, more: &Value, files: &[(&str, &str)]) -> Self {
        let tag = format!("T{}", Uuid::new_v4().simple());
        let image = format!("{}/{repository}:{tag}", engine("KILN_TEST_REGISTRY"));
        let mut config = json!({ "Ref": image, "buildArgs": { "GREETING": "moin" } });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let own = [
            ("com.openfaas.docker.config", &*config.to_string()),
            ("context/Dockerfile", dockerfile),
            ("context/hello", "hello from the context\n"),
        ];
        let bytes = tar(&[&own, files].concat(), &[]);
        // What is pushed is in lower case.
        Self { bytes, repository: repository.to_lowercase(), tag: tag.to_lowercase() }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The image's name as the archive of [`Archive::of`] has it.
    pub(crate) fn image(&self) -> String {
        format!("{}/Functions/Hello:T{}", engine("KILN_TEST_REGISTRY"), &self.tag[1..])
    }

    /// A body that needn't be a good one.
    pub(crate) fn raw(bytes: Vec<u8>) -> Self {
        Self { bytes, repository: String::new(), tag: String::new() }
    }

    /// The same, compressed by a program.
    pub(crate) fn compressed(self, program: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("req.tar");
        fs::write(&file, &self.bytes).unwrap();
        let output = Command::new(program).arg("-c").arg(&file).output().expect("the program runs");
        assert!(output.status.success(), "{program}");
        Self { bytes: output.stdout, ..self }
    }
}

/// A tar of these files.
pub(crate) fn tar(files: &[(&str, &str)], options: &[&str]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let file = folder.path().join(path);
        fs::create_dir_all(file.parent().unwrap_or(Path::new("."))).unwrap();
        fs::write(file, text).unwrap();
    }
    let output = Command::new("tar").args(["-C"]).arg(folder.path()).args(["-cf", "-"]).args(options).arg(".").output();
    let output = output.expect("tar runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The value of `X-Cloud-Signature`.
pub(crate) fn sha1(body: &[u8], key: &str) -> String {
    format!("sha1={}", mac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, body, key))
}

/// The value of `X-Build-Signature`.
pub(crate) fn sha256(body: &[u8], key: &str) -> String {
    format!("sha256={}", mac(hmac::HMAC_SHA256, body, key))
}

fn mac(algorithm: hmac::Algorithm, body: &[u8], key: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(algorithm, key.as_bytes()), body);
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
