//! `distill`: from a layered sentence encoder to a static table. Its work is in `commands::distill`.

use std::path::PathBuf;

use clap::Args;

/// `distill`
#[derive(Debug, Args)]
pub(crate) struct Distill {
    /// The layered encoder, named as search.model_path names one: a folder, models:/NAME/VERSION, models:/NAME@ALIAS or
    /// hf://OWNER/NAME@COMMIT
    #[arg(long, value_name = "MODEL")]
    pub model_path: PathBuf,
    /// Write the table to this folder, which is made; one that is there must be empty
    #[arg(long, value_name = "FOLDER")]
    pub output: PathBuf,
    /// Numbers of a vector, at most as many as the encoder's have
    #[arg(long, default_value_t = 256, value_name = "COUNT")]
    pub dimensions: usize,
    /// Tokens that go through the encoder together; search.batch_tokens where missing
    #[arg(long, value_name = "COUNT")]
    pub batch_tokens: Option<usize>,
}
