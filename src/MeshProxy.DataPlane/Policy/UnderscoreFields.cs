using MeshProxy.Http.Fields;
using MeshProxy.Model.Config;

namespace MeshProxy.DataPlane.Policy;

/// <summary>Fields whose names have underscores, where they are not simply allowed. No name that the proxy knows has one.</summary>
internal static class UnderscoreFields
{
    /// <returns>False when there is one and the policy is to reject.</returns>
    public static bool Admit(FieldMap fields, UnderscorePolicy policy)
    {
        for (var i = fields.Count - 1; i >= 0; i--)
        {
            var line = fields[i];
            if (line.Known == KnownField.Other && line.Name.Contains((byte)'_'))
            {
                if (policy == UnderscorePolicy.Reject)
                {
                    return false;
                }

                fields.RemoveAt(i);
            }
        }

        return true;
    }
}
