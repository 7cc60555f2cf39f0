//! The benches of the backend suites: engines and registries out of the environment.

use std::sync::Arc;

use kiln_backends::{BasicCredential, BuildBackend, conformance::Bench};

/// A variable that `deploy/dev/engines` sets.
pub(crate) fn needed(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run `deploy/dev/engines up`, then `eval \"$(deploy/dev/engines env)\"`")
    })
}

/// A bench on `backend` with the development registries.
#[allow(dead_code, reason = "pods know them by other addresses")]
pub(crate) fn bench(backend: impl BuildBackend + 'static) -> Bench {
    bench_at(backend, needed("KILN_TEST_REGISTRY"), needed("KILN_TEST_REGISTRY_AUTH"))
}

/// The same where the engine, and the suite, know the registries by other addresses.
pub(crate) fn bench_at(backend: impl BuildBackend + 'static, open: String, guarded: String) -> Bench {
    let credential = BasicCredential {
        username: needed("KILN_TEST_REGISTRY_AUTH_USER"),
        password: needed("KILN_TEST_REGISTRY_AUTH_PASSWORD").into(),
    };
    Bench::new(Arc::new(backend), open, (guarded, credential), "bases/busybox:latest".to_owned())
}

/// Makes a test of each case, so that every engine is held to the same list.
#[allow(unused_macros, reason = "one of the files takes cases one by one")]
macro_rules! backend_suite {
    ($bench:expr) => {
        crate::backends_bench::backend_suite! { $bench;
            the_probe_proves_the_engine
            a_build_is_in_the_registry_under_its_digest
            a_build_without_output_runs_and_pushes_nothing
            several_platforms_are_an_index
            an_ignore_file_of_the_dockerfiles_own_counts_first
            the_image_shows_nothing_of_kiln
            the_context_arrives_as_it_is
            arguments_and_proxies_reach_the_steps
            each_step_starts_once_and_ends_once
            a_failing_step_tells_exit_code_line_and_last_lines
            a_base_without_a_shell_is_unsupported
            a_base_for_another_processor_is_unsupported
            a_base_that_is_not_there_is_not_found
            a_broken_dockerfile_is_an_invalid_recipe
            a_push_needs_the_registrys_credentials
            a_private_base_needs_the_callers_credentials
            a_token_serves_only_the_build_it_was_given_to
            a_step_beyond_its_memory_is_out_of_memory
            a_registry_that_does_not_answer_is_tried_again
            contexts_that_look_alike_are_not_mixed_up
            a_layer_made_with_a_secret_stays_with_its_owner
            a_running_step_is_not_shared_between_owners
            cache_mounts_are_split_by_owner
            an_owner_keeps_their_own_cache
            arguments_that_steer_the_engine_are_refused
            what_is_not_permitted_is_denied
            a_syntax_line_is_not_followed
            a_permitted_host_gives_files_and_no_repositories
            a_permitted_frontend_reads_the_dockerfile
            a_step_sees_no_socket
            a_step_reaches_nothing_on_the_machine
            a_cancelled_build_leaves_no_process
            a_build_cancelled_at_once_does_nothing
            a_build_past_its_deadline_fails_and_leaves_no_process
            a_dropped_run_ends_on_the_engine
        }
    };
    ($bench:expr; $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                kiln_backends::conformance::$case(&$bench).await;
            }
        )*
    };
}

#[allow(unused_imports, reason = "as above")]
pub(crate) use backend_suite;
