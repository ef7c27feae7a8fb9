fn main() -> std::process::ExitCode {
    saker::cli::run()
}
