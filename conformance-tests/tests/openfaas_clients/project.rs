//! Folders that clients pack: one with a context and its configuration, one with a stack of functions.

use std::{fs, path::Path};

use kiln_conformance_tests::kiln::base;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::image::Image;

pub(crate) const CONFIG: &str = "com.openfaas.docker.config";

/// A Dockerfile that holds what it was given where a look at the image shows it.
pub(crate) fn greets() -> String {
    format!("FROM {}\nARG GREETING\nLABEL greeting=$GREETING\nCOPY hello /hello\nRUN cat /hello\n", base("busybox"))
}

/// A step that begins and then takes a minute.
pub(crate) fn lasts() -> String {
    format!("FROM {}\nRUN echo begun {}; sleep 60\n", base("busybox"), uuid::Uuid::new_v4())
}

/// A step that fails with status 3, after words of its own.
pub(crate) fn fails() -> String {
    format!("FROM {}\nRUN echo no such luck >&2; exit 3\n", base("busybox"))
}

/// A folder with `context/` and the configuration beside it.
#[derive(Debug)]
pub(crate) struct Package {
    folder: TempDir,
    pub(crate) image: Image,
}

impl Package {
    /// A context with this Dockerfile and a file `hello`, for a new image; named as the newer builder's
    /// clients name it.
    pub(crate) fn of(dockerfile: &str) -> Self {
        Self::configured(dockerfile, |image| json!({ "image": image, "buildArgs": { "GREETING": "moin" } }))
    }

    /// The same with a configuration of one's own.
    pub(crate) fn configured(dockerfile: &str, config: impl FnOnce(String) -> Value) -> Self {
        let (folder, image) = (tempfile::tempdir().unwrap(), Image::new());
        write(folder.path(), CONFIG, &config(image.name()).to_string());
        write(folder.path(), "context/Dockerfile", dockerfile);
        write(folder.path(), "context/hello", "hello from the context\n");
        Self { folder, image }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// With one more file in the context.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        write(&self.path().join("context"), path, text);
        self
    }
}

/// A stack file with its functions beside it.
#[derive(Debug)]
pub(crate) struct Stack {
    folder: TempDir,
    functions: Map<String, Value>,
}

impl Stack {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), functions: Map::new() }
    }

    /// One function, made from a Dockerfile.
    pub(crate) fn of(image: &Image, dockerfile: &str) -> Self {
        Self::new().function("greeter", image, dockerfile)
    }

    /// With a function that is a context of its own.
    pub(crate) fn function(self, name: &str, image: &Image, dockerfile: &str) -> Self {
        write(self.path(), &format!("{name}/Dockerfile"), dockerfile);
        write(self.path(), &format!("{name}/hello"), "hello from the context\n");
        self.with(name, image, "dockerfile", &json!({ "GREETING": "moin" }))
    }

    /// With a function that a template makes a context of.
    pub(crate) fn templated(self, name: &str, image: &Image) -> Self {
        let step = "RUN echo \"adds <$ADDITIONAL_PACKAGE>\"";
        let dockerfile = format!("FROM {}\nARG ADDITIONAL_PACKAGE\nCOPY function /function\n{step}\n", base("busybox"));
        write(self.path(), "template/shell/template.yml", "language: shell\n");
        write(self.path(), "template/shell/Dockerfile", &dockerfile);
        write(self.path(), &format!("{name}/handler.sh"), "echo handled\n");
        self.with(name, image, "shell", &json!({}))
    }

    /// With a secret for a function's build.
    pub(crate) fn secret(mut self, function: &str, id: &str, value: &str) -> Self {
        write(self.path(), id, value);
        self.functions[function]["build_secrets"] = json!({ id: id });
        self.save()
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn with(mut self, name: &str, image: &Image, lang: &str, build_args: &Value) -> Self {
        let function =
            json!({ "lang": lang, "handler": format!("./{name}"), "image": image.name(), "build_args": build_args });
        self.functions.insert(name.to_owned(), function);
        self.save()
    }

    fn save(self) -> Self {
        // JSON is YAML, too.
        let provider = json!({ "name": "openfaas", "gateway": "http://127.0.0.1:8080" });
        let stack = json!({ "version": "1.0", "provider": provider, "functions": self.functions });
        write(self.path(), "stack.yaml", &stack.to_string());
        self
    }
}

fn write(folder: &Path, path: &str, text: &str) {
    let file = folder.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
}
