/** An action that uses commons-lang3 and says which version it got. */
public class Main {
    public static void main(String[] arguments) throws Exception {
        var jar = org.apache.commons.lang3.StringUtils.class.getProtectionDomain().getCodeSource().getLocation();
        var version = org.apache.commons.lang3.StringUtils.class.getPackage().getImplementationVersion();
        System.out.println(new com.google.gson.JsonPrimitive(version).getAsString());
    }
}
