//! The commands: one file each, and its line in the list below.

mod bench;
mod delta;
mod doctor;
mod evaluate;
mod export;
mod front;
mod generate;
mod measure;
mod optimize;
mod replay;
mod resolve;
mod run_trial;
mod search;
mod sensitivity;
mod serve;
mod space;
mod studies;
mod teach;
mod trials;
mod up;
mod worker;

macro_rules! commands {
    ($($(#[$meta:meta])* $module:ident :: $name:ident),+ $(,)?) => {
        /// A command.
        #[derive(Debug, clap::Subcommand)]
        pub(crate) enum Verb {
            $($(#[$meta])* $name($module::$name),)+
        }

        impl Verb {
            /// Runs the command.
            pub(crate) fn run(self, global: &crate::settings::Global) -> anyhow::Result<()> {
                match self {
                    $(Verb::$name(command) => command.run(global),)+
                }
            }
        }
    };
}

commands! {
    up::Up,
    search::Search,
    serve::Serve,
    worker::Worker,
    measure::Measure,
    studies::Studies,
    trials::Trials,
    front::Front,
    replay::Replay,
    export::Export,
    delta::Delta,
    evaluate::Evaluate,
    generate::Generate,
    #[command(name = "sensitivity")]
    sensitivity::SensitivityCommand,
    resolve::Resolve,
    teach::Teach,
    optimize::Optimize,
    space::Space,
    doctor::Doctor,
    bench::Bench,
    #[command(hide = true)]
    run_trial::RunTrial,
}

/// Runs an async command to its end.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(future)
}

/// Returns once the program is asked to end: Ctrl-C or SIGTERM.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
