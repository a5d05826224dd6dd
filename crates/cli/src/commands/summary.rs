//! `ocelli summary`: a network layer by layer.

use crate::arguments::Globals;
use crate::models::{device, net_or_model};
use crate::text;
use clap::Args;
use ocelli::Result;
use ocelli::summary::{Summary, Towers, compare_dense, dense_table};
use serde_json::json;
use std::process::ExitCode;

/// Show a network's layers: sizes with their formula, parameters, costs, what a unit sees, memory
#[derive(Args)]
#[command(
    after_help = "Examples:\n  ocelli summary lenet5\n  ocelli summary alexnet-slide --batch-size 128 --train\n  \
    ocelli summary my-net.toml --strict --compare-dense\n  \
    ocelli summary alexnet-2012-2gpu --towers --train --batch-size 128"
)]
pub struct Show {
    /// A zoo name, a .toml file, a run folder, latest, or a .safetensors file
    net: String,
    /// Pictures at a time, for the memory
    #[arg(long, value_name = "B", default_value = "1", value_parser = text::batch)]
    batch_size: usize,
    /// Also checks that the network can be trained with cross-entropy
    #[arg(long)]
    train: bool,
    /// An output size that is not whole is an error
    #[arg(long)]
    strict: bool,
    /// Also the weights that each convolution would need without sharing, and without sparse connections
    #[arg(long)]
    compare_dense: bool,
    /// A net of two groups as two towers, each on a GPU of its own: what each holds, what travels between them, and with
    /// --train what each needs for a batch
    #[arg(long)]
    towers: bool,
}

impl Show {
    /// Prints the table.
    pub fn run(self, globals: &Globals) -> Result<ExitCode> {
        let (net, _) = net_or_model(&self.net)?;
        if self.strict {
            net.check_strict()?;
        }
        if self.train {
            net.check_logits()?;
        }
        let towers = if self.towers { Some(Towers::new(&net)?) } else { None };
        if let (Some(towers), false) = (&towers, globals.json) {
            text::print(&towers.to_string());
            if self.train {
                text::print(&format!("\n{}", towers.memory_table(self.batch_size)));
            }
            return Ok(ExitCode::SUCCESS);
        }
        let summary = Summary::new(&net, self.batch_size, &device(globals))?;
        let dense = if self.compare_dense { compare_dense(&net) } else { Vec::new() };
        if globals.json {
            let mut value = summary.to_json();
            if self.compare_dense {
                let row = |row: &ocelli::summary::Dense| json!({ "layer": row.layer, "dense": row.dense, "local": row.local, "shared": row.shared, "neuron": row.neuron });
                value["compare_dense"] = dense.iter().map(row).collect();
            }
            if let Some(towers) = towers {
                value["towers"] = towers.to_json(self.batch_size);
            }
            text::json(&value);
        } else {
            text::print(&summary.to_string());
            if self.compare_dense {
                text::print(&format!("\n{}", dense_table(&dense)));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
