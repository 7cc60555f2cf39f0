//! `kiln doctor`: checks what a gateway needs, part by part, and says what to do.

use std::process::ExitCode;

use kiln_backends::InstanceId;
use uuid::Uuid;

use super::{ConfigArgs, exit, fail};
use crate::{config::Config, serve};

/// What was found about one part.
struct Finding {
    part: &'static str,
    result: Result<String, String>,
}

pub(crate) async fn run(args: &ConfigArgs) -> ExitCode {
    let config = match args.load() {
        Ok(config) => config,
        Err(error) => return fail(exit::USAGE, &error),
    };
    let findings = [engine(&config).await];
    let mut healthy = true;
    for Finding { part, result } in findings {
        match result {
            Ok(text) => println!("ok    {part}: {text}"),
            Err(text) => {
                healthy = false;
                println!("FAIL  {part}: {text}");
            }
        }
    }
    ExitCode::from(u8::from(!healthy))
}

async fn engine(config: &Config) -> Finding {
    let probed = async {
        let backend = serve::backend(&config.engine, InstanceId(Uuid::nil())).map_err(|e| e.to_string())?;
        backend.probe().await.map_err(|e| e.to_string())
    };
    let result = probed.await.map(|capabilities| format!("{} {}", capabilities.engine, capabilities.version));
    Finding { part: "engine", result }
}
