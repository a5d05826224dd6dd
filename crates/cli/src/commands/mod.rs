//! One file a command.

mod bench;
mod colours;
mod conv;
mod data;
mod explain;
mod lr_find;
mod predict;
mod runs;
mod summary;
mod train;
mod val;

use crate::arguments::{Arguments, program};
use crate::text;
use clap::Subcommand;
use ocelli::Result;
use std::process::ExitCode;

/// What `ocelli` can do.
#[derive(Subcommand)]
pub enum Command {
    Train(Box<train::Train>),
    #[command(visible_alias = "eval")]
    Val(val::Val),
    Predict(predict::Predict),
    Summary(summary::Show),
    Conv(conv::Conv),
    Explain(explain::Explain),
    Bench(bench::Bench),
    LrFind(Box<lr_find::LrFind>),
    Data(data::Data),
    Runs(runs::Runs),
}

/// Runs the command, or lists what most people want.
pub fn run(Arguments { command, globals }: Arguments) -> Result<ExitCode> {
    match command {
        Some(Command::Train(train)) => train.run(&globals),
        Some(Command::Val(val)) => val.run(&globals),
        Some(Command::Predict(predict)) => predict.run(&globals),
        Some(Command::Summary(show)) => show.run(&globals),
        Some(Command::Conv(conv)) => conv.run(&globals),
        Some(Command::Explain(explain)) => explain.run(&globals),
        Some(Command::Runs(runs)) => runs.run(&globals),
        Some(Command::Bench(bench)) => bench.run(&globals),
        Some(Command::LrFind(find)) => find.run(&globals),
        Some(Command::Data(data)) => data.run(&globals),
        None => {
            text::print(&welcome());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The five things that most people want.
fn welcome() -> String {
    let program = program();
    format!(
        "ocelli trains convolutional networks on the CPU and looks inside them.

  {program} train                           train LeNet-5 on embedded digits (about a minute)
  {program} train --data PICTURES           train on a folder of pictures, a subfolder for each class
  {program} predict latest samples/*.png    what the newest run says about pictures
  {program} summary lenet5                  a network's layers, sizes and costs
  {program} conv --input \"1 2;3 4\" --filter \"2 1;-1 2\" --padding 1
                                         one convolution, worked out

`{program} --help` lists every command, `{program} COMMAND --help` its flags with an example.
"
    )
}
