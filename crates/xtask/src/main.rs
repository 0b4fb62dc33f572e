mod codegen;
fn main() -> anyhow::Result<()> {
    codegen::write(&std::env::current_dir()?)
}
