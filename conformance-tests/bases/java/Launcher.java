/** Starts the class named first, as the runtime's launcher does, which is all that its class path needs to be tried. */
class Launcher {
    public static void main(String[] arguments) throws Exception {
        Class.forName(arguments[0]).getMethod("main", String[].class).invoke(null, (Object) new String[0]);
    }
}
