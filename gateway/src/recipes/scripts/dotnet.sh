# .NET: the SDK reads project.json no more, and a runtime's base has no SDK: only what an action brings is ever loaded.
unsupported "project.json is a format that .NET gave up in 2017, and no runtime loads packages from its image; publish the action with 'dotnet publish' and ship its assemblies inside the action." 91
