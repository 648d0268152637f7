//! What a desktop shell starts: `pumas-rpc --port 0`.

fn main() {
    let methods = pumas_rpc::methods::all();
    std::process::exit(i32::from(methods.names().count() == 0));
}
