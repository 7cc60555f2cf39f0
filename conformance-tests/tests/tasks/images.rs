//! Images: listed, shown, deleted.

use kiln_conformance_tests::{kiln::base, registry};
use serde_json::Value;

use crate::{gateway, run, send};

#[tokio::test]
async fn images_are_listed_shown_and_deleted() {
    let user = "tasks-images";
    let kiln = gateway(user).await;
    run(&kiln, user, &send("tasks-images:a", None)).await.well();
    let digest = registry::digest(user, "a").await.unwrap();
    let catalogs = run(&kiln, user, &["builder:list-catalogs"]).await.well();
    assert!(catalogs.contains("\"tasks-images\"") && !catalogs.contains(&base("python")), "{catalogs}");
    let images = run(&kiln, user, &["builder:list-images", "CATALOG=tasks-images"]).await.well();
    let images: Value = serde_json::from_str(&images).unwrap();
    assert!(images["images"].as_array().unwrap().iter().any(|image| image["digest"] == digest), "{images}");
    let image = run(&kiln, user, &["builder:get-image", "IMAGE=tasks-images:a"]).await.well();
    let image: Value = serde_json::from_str(&image).unwrap();
    assert_eq!(image["digest"], digest);

    // Its base has another name in another catalog, so this tag has the image alone.
    let deleted = run(&kiln, user, &["builder:delete-image", "IMAGE=tasks-images:a"]).await.well();
    assert!(deleted.contains(&digest), "{deleted}");
    assert_eq!(registry::digest(user, "a").await, None);
    let said = run(&kiln, user, &["builder:get-image", "IMAGE=tasks-images:a"]).await.badly();
    assert!(said.contains("404"), "{said}");
    run(&kiln, user, &["builder:delete-image", "IMAGE=bases/python:latest"]).await.badly();
}
