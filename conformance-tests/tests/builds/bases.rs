//! What the base image decides: by its own script, by what it lacks, by whose it is.

use kiln_conformance_tests::{Engine, Launch};
use uuid::Uuid;

use crate::{authority::Authority, image::Image, kinds::nothing_of_kilns_is_in};

#[tokio::test]
async fn a_base_that_can_extend_itself_does_so_for_every_kind() {
    let authority = Authority::new();
    let kiln = authority.trusted_by(Launch::on(Engine::Buildkitd).user("devel")).start().await;
    let client = kiln.client("devel");
    let base = Image::base("extendable");
    base.keep().await;
    for kind in ["python", "nodejs", "php", "java", "go", "ruby", "dotnet"] {
        let (image, file) = (Image::fresh("devel"), format!("{kind} {}", Uuid::new_v4()));
        let id = client.start(&base.reference(), &image.target(), kind, Some(&file)).await;
        let build = client.ended(&id).await;
        assert_eq!((&build["state"], &build["extender"]), (&"succeeded".into(), &"/bin/extend".into()), "{build:#}");
        let status = client.get(&format!("/system/api/v1/build/status?id={id}")).await.json();
        assert_eq!(status["extender"], "/bin/extend");
        if kind == "python" {
            assert_eq!(image.prints(&["cat", "/extended"]).await, file);
            let ((config, whole), (of_base, _)) = (image.config().await, base.config().await);
            assert_eq!(config, of_base);
            nothing_of_kilns_is_in(&image, &base, &whole, &authority).await;
        }
    }
}

#[tokio::test]
async fn a_script_of_the_base_that_fails_fails_the_build_with_its_last_line() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let client = kiln.client("devel");
    let base = Image::base("extendable").reference();
    let id = client.start(&base, &Image::fresh("devel").target(), "python", Some("fail")).await;
    let build = client.ended(&id).await;
    assert_eq!(build["failure"]["reason"], "StepFailed", "{build:#}");
    assert_eq!(build["failure"]["message"], "the installation ended with status 3: extend: told to fail");
}

#[tokio::test]
async fn a_step_out_of_the_cache_still_names_its_extender() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let client = kiln.client("devel");
    let (base, file) = (Image::base("extendable").reference(), Uuid::new_v4().to_string());
    for cached in [false, true] {
        let id = client.start(&base, &Image::fresh("devel").target(), "python", Some(&file)).await;
        let build = client.ended(&id).await;
        assert_eq!((&build["state"], &build["extender"]), (&"succeeded".into(), &"/bin/extend".into()), "{build:#}");
        let ran = client.log(&id).await.iter().any(|(_, text)| text.contains("extend: done"));
        assert_eq!(ran, !cached, "the second one is out of the owner's cache");
    }
}

#[tokio::test]
async fn an_empty_file_installs_nothing_and_succeeds() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let client = kiln.client("devel");
    for (file, kind) in [("", "python"), ("\n \n", "python"), ("", "nodejs")] {
        let (base, image) = (Image::base(kind), Image::fresh("devel"));
        let id = client.start(&base.reference(), &image.target(), kind, Some(file)).await;
        let build = client.ended(&id).await;
        assert_eq!(build["state"], "succeeded", "{kind} {file:?}: {build:#}");
        assert!(client.log(&id).await.iter().any(|(_, text)| text.contains("is empty, nothing to install")));
        assert_eq!(image.config().await.0, base.config().await.0);
    }
}

#[tokio::test]
async fn a_file_that_is_none_of_its_kind_is_invalid_and_not_a_failed_installation() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let client = kiln.client("devel");
    let mut started = Vec::new();
    for (kind, file, sentence) in [
        ("nodejs", "{\"dependencies\": ", "package.json is not a JSON object; mend the file and send it again."),
        ("nodejs", "[]", "package.json is not a JSON object; mend the file and send it again."),
        ("php", "{\"require\": ", "composer.json is not a JSON object; mend the file and send it again."),
        ("php", "[1]", "composer.json is not a JSON object; mend the file and send it again."),
        ("java", "<project>", "pom.xml is not well-formed; mend the file and send it again."),
        ("go", "require nothing at all", "of the base can't read go.mod; mend the file, or use a newer base."),
        ("ruby", "gem 'a', (", "Gemfile is not valid Ruby; mend the file and send it again."),
    ] {
        let id = client.start(&Image::base(kind).reference(), &Image::fresh("devel").target(), kind, Some(file)).await;
        started.push((id, kind, file, sentence));
    }
    for (id, kind, file, sentence) in started {
        let build = client.ended(&id).await;
        assert_eq!(build["failure"]["reason"], "RecipeInvalid", "{kind} {file}: {build:#}");
        let message = build["failure"]["message"].as_str().unwrap();
        assert!(message.ends_with(sentence), "{kind} {file}: {message}");
    }
}

#[tokio::test]
async fn without_a_file_the_image_is_the_base_under_a_new_name() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").start().await;
    let client = kiln.client("devel");
    // Without a shell too: no step runs.
    for base in ["python", "no-shell"] {
        let (base, image) = (Image::base(base), Image::fresh("devel"));
        let id = client.start(&base.reference(), &image.target(), "python", None).await;
        let build = client.ended(&id).await;
        assert_eq!((&build["state"], &build["extender"]), (&"succeeded".into(), &().into()), "{build:#}");
        assert_eq!(build["digest"].as_str().map(str::to_owned), image.digest().await);
        assert_eq!(image.layers().await, base.layers().await, "the layers are the base's");
        assert_eq!(image.config().await.0, base.config().await.0);
    }
}

#[tokio::test]
async fn a_base_that_can_not_serve_fails_with_a_reason_and_what_is_in_the_way() {
    let kiln = Launch::on(Engine::Buildkitd).user("devel").user("ada").start().await;
    let client = kiln.client("devel");
    let base = |name: &str| Image::base(name).reference();
    let python = Image::base("python");
    let foreign = Image::copy_of(&python, Image::fresh("ada"), |_| {}).await.reference();
    let other_platform = |config: &mut serde_json::Value| {
        let other = if config["architecture"] == "arm64" { "amd64" } else { "arm64" };
        config["architecture"] = other.into();
    };
    let elsewhere = Image::copy_of(&python, Image::fresh("devel"), other_platform).await.reference();
    let (unsupported, not_found, forbidden) = ("BaseUnsupported", "BaseNotFound", "BaseForbidden");
    let cases = [
        (base("no-shell"), "python", unsupported, "the base image has no /bin/sh, which the installation needs; use"),
        (base("onbuild"), "python", unsupported, "the base image has ONBUILD triggers"),
        (elsewhere, "python", unsupported, "isn't made for linux/"),
        (base("nodejs"), "python", unsupported, "the base has no python3 on its path"),
        (base("python"), "nodejs", unsupported, "the base has no node and npm on its path"),
        (base("python"), "php", unsupported, "the base has no php and composer on its path"),
        (base("python"), "java", unsupported, "the base has no Maven"),
        (base("python"), "go", unsupported, "the base has no go command on its path"),
        (base("python"), "ruby", unsupported, "the base has no ruby and bundle on its path"),
        (base("python"), "dotnet", unsupported, "project.json is a format that .NET gave up in 2017"),
        (base("there-is-none"), "python", not_found, "doesn't exist in the registry"),
        (base("python").replace("latest", "none"), "python", not_found, "doesn't exist in the registry"),
        (foreign, "python", forbidden, "the operator permits it with [[bases.shared]]"),
        ("private.example/base:1".to_owned(), "python", forbidden, "the operator permits it with [[bases.shared]]"),
    ];
    let mut started = Vec::new();
    for (source, kind, reason, sentence) in cases {
        let image = Image::fresh("devel");
        let id = client.start(&source, &image.target(), kind, Some("anything")).await;
        started.push((id, source, kind, reason, sentence, image));
    }
    for (id, source, kind, reason, sentence, image) in started {
        let build = client.ended(&id).await;
        let failure = &build["failure"];
        assert_eq!(failure["reason"], reason, "{kind} on {source}: {build:#}");
        let message = failure["message"].as_str().unwrap();
        assert!(message.contains(sentence), "{kind} on {source}: {message}");
        assert_eq!(image.digest().await, None, "{kind} on {source}");
    }
}
